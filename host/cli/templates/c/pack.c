{{#processor}}
#include <wctype.h>

{{/processor}}
#include "sdk/lmstrix_pack.h"
{{#resolver}}

static const pack_param greet_params[] = {
    {"name", "the person to greet", .required = true},
    {"style", "the style of the greeting", .fallback = "friendly"},
    {0},
};

static bool greet(const pack_request *request, pack_resolved *resolved, pack_error *error) {
    pack_text text = pack_fill("Write a {style} greeting for {name}.", request->params);
    pack_message(resolved, PACK_USER, text);
    return true;
}

static const pack_prompt prompts[] = {
    {"greet", "Asks for a greeting", greet_params, greet},
    {0},
};
{{/resolver}}
{{#processor}}

// A chunk is whole UTF-8 and otherwise cut anywhere: the total output must not depend on where.
// What has to be remembered between two chunks belongs in `state`, see `.state_size`.
static bool upper(void *state, pack_text chunk, pack_pushed *pushed, pack_error *error) {
    for (size_t at = 0; at < chunk.len;) {
        uint32_t letter = pack_next_char(chunk, &at);
        // `towupper` cannot return two letters.
        if (letter == L'ß') pack_add(&pushed->text, "SS");
        else pack_add_char(&pushed->text, towupper(letter));
    }
    return true;
}

static const pack_processor processors[] = {
    {"upper", "Converts the answer to upper case", .push = upper},
    {0},
};
{{/processor}}

const pack_table pack_contents = {
    .summary = "{{summary}}",
{{#resolver}}
    .prompts = prompts,
{{/resolver}}
{{#processor}}
    .processors = processors,
{{/processor}}
};
