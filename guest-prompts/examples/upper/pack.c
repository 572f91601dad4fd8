#include <wctype.h>

#include "sdk/lmstrix_pack.h"

typedef struct {
    // Convert only the first letter of each word.
    bool words;
    // The last chunk ended inside a word.
    bool in_word;
} upper_state;

static const pack_param upper_options[] = {
    {"words", "true: only the first letter of each word", .fallback = "false"},
    {0},
};

static bool open_upper(void *opened, const pack_context *context, pack_error *error) {
    upper_state *state = opened;
    pack_text words = pack_value(context->options, "words");
    state->words = pack_equal(words, "true");
    if (words.len > 0 && !state->words && !pack_equal(words, "false"))
        return pack_invalid(error, "words", "expected `true` or `false`");
    return true;
}

static void add_upper(pack_text *text, uint32_t letter) {
    // `towupper` cannot return two letters.
    if (letter == L'ß') pack_add(text, "SS");
    else pack_add_char(text, towupper(letter));
}

static bool push_upper(void *opened, pack_text chunk, pack_pushed *pushed, pack_error *error) {
    upper_state *state = opened;
    for (size_t at = 0; at < chunk.len;) {
        uint32_t letter = pack_next_char(chunk, &at);
        if (state->words && state->in_word) pack_add_char(&pushed->text, letter);
        else add_upper(&pushed->text, letter);
        // Marks such as the apostrophe do not end a word, and do not start one.
        state->in_word = iswalnum(letter) || (state->in_word && !iswspace(letter));
    }
    return true;
}

static const pack_processor processors[] = {
    {
        .name = "upper",
        .summary = "Converts the answer to upper case",
        .options = upper_options,
        .state_size = sizeof(upper_state),
        .open = open_upper,
        .push = push_upper,
    },
    {0},
};

const pack_table pack_contents = {
    .summary = "Converts an answer to upper case, all of it or the first letters",
    .processors = processors,
};
