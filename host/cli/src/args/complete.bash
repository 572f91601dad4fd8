_lmstrix_host() {
    local IFS=$'\013'
    local -a words=()
    local word rest="$COMP_LINE" blanks cut='' index=0 space=true i
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        word="${COMP_WORDS[i]}"
        blanks="${rest%%[! $'\t']*}"
        rest="${rest#"$blanks"}"
        rest="${rest#"$word"}"
        # Of the word at the cursor only the part before the cursor counts.
        if ((i == COMP_CWORD && BASH_VERSINFO[0] >= 4)) && [[ "$word" != *: ]]; then
            word="$2"
        fi
        if ((i > 0)) && [[ -z "$blanks" && ("${COMP_WORDS[i]}" == :* || "${COMP_WORDS[i - 1]}" == *:) ]]; then
            words[${#words[@]} - 1]+="$word"
        else
            words+=("$word")
        fi
        if ((i == COMP_CWORD)); then
            index=$((${#words[@]} - 1))
            break
        fi
    done
    case "${words[index]}" in
        *:) cut="${words[index]}" ;;
        *) cut="${words[index]%"$2"}" ;;
    esac
    if compopt +o nospace 2>/dev/null; then
        space=false
    fi
    COMPREPLY=($(
        _CLAP_IFS="$IFS" \
            _CLAP_COMPLETE_INDEX="$index" \
            _CLAP_COMPLETE_COMP_TYPE="$COMP_TYPE" \
            _CLAP_COMPLETE_SPACE="$space" \
            VARIABLE=bash \
            PROGRAM -- "${words[@]}"
    ))
    if [[ $? != 0 ]]; then
        unset COMPREPLY
        return
    fi
    if [[ "$cut" == *: ]]; then
        for i in "${!COMPREPLY[@]}"; do
            COMPREPLY[i]="${COMPREPLY[i]#"$cut"}"
        done
    fi
    if [[ $space == false && "${COMPREPLY-}" =~ [=/:]$ ]]; then
        compopt -o nospace
    fi
}
if ((BASH_VERSINFO[0] > 4 || (BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 4))); then
    complete -o nospace -o bashdefault -o nosort -F _lmstrix_host lmstrix-host
else
    complete -o nospace -o bashdefault -F _lmstrix_host lmstrix-host
fi
