// Helpers for prompt packs in C. Define `pack_contents` with the tables of your prompts and
// processors; lmstrix_pack.c implements the contract (wit/prompts.wit) with them.
//
// Memory:
// - Arguments belong to the SDK. Do not free them. A request and a chunk are valid during the
//   call; the context of a processor is valid until the processor is closed. A chunk may be
//   changed in place and returned, from its first byte and at most as long as it was.
// - Texts that you return must come from `malloc`, as those of the functions below do. The SDK
//   takes them. Never return a string literal: use `pack_copy`.
// - Strings in tables are literals. They are copied.
// - Zero is the empty text and the empty list. Out of memory ends the call with a trap.
#ifndef LMSTRIX_PACK_H
#define LMSTRIX_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bindings.h"

// UTF-8 text: `ptr` and `len` in bytes. It has no zero byte at the end.
typedef bindings_string_t pack_text;
typedef bindings_list_string_t pack_texts;
typedef lmstrix_prompts_types_entry_t pack_entry;
typedef lmstrix_prompts_types_file_t pack_file;
typedef lmstrix_prompts_types_error_t pack_error;
typedef lmstrix_prompts_types_setting_t pack_setting;
typedef exports_lmstrix_prompts_resolver_request_t pack_request;
typedef exports_lmstrix_prompts_resolver_resolved_t pack_resolved;
typedef exports_lmstrix_prompts_post_processor_context_t pack_context;
typedef exports_lmstrix_prompts_post_processor_pushed_t pack_pushed;
typedef exports_lmstrix_prompts_post_processor_stop_t pack_stop;
typedef exports_lmstrix_prompts_post_processor_outcome_t pack_outcome;

typedef enum { PACK_SYSTEM, PACK_USER, PACK_ASSISTANT } pack_role;

// A parameter of a prompt or an option of a processor. `fallback` is the default, or NULL.
typedef struct {
    const char *name, *summary, *fallback;
    bool required;
} pack_param;

// The functions of prompts and processors return true, or `pack_fail` and the like. Results
// are zero at the start of the call. All lists end with `{0}`; NULL is the empty list.
typedef struct {
    const char *name, *summary;
    const pack_param *params;
    bool (*resolve)(const pack_request *request, pack_resolved *resolved, pack_error *error);
    // Parameters that are not declared are used, too.
    bool any_params;
} pack_prompt;

// `state` points to `state_size` bytes that are zero at first. A function may be NULL; without
// `push`, the answer is passed on unchanged.
typedef struct {
    const char *name, *summary;
    const pack_param *options;
    size_t state_size;
    bool (*open)(void *state, const pack_context *context, pack_error *error);
    bool (*push)(void *state, pack_text chunk, pack_pushed *pushed, pack_error *error);
    bool (*finish)(void *state, const pack_stop *stop, pack_outcome *outcome, pack_error *error);
    // Frees what `state` points to; the SDK frees the state. Not called if `open` fails.
    void (*close)(void *state);
} pack_processor;

// PACK_RESOLVER and PACK_PROCESSOR are defined on the command line, see build.sh. They decide
// which interfaces the pack exports.
typedef struct {
    const char *summary;
#ifdef PACK_RESOLVER
    const pack_prompt *prompts;
#endif
#ifdef PACK_PROCESSOR
    const pack_processor *processors;
#endif
} pack_table;

// Defined by your pack.
extern const pack_table pack_contents;

// Returns the value of a parameter or option. `ptr` is NULL if there is none of the name.
// pack_value(request->params, "style"), pack_value(context->options, "words")
#define pack_value(list, name) pack_find((list).ptr, (list).len, name)
pack_text pack_find(const pack_entry *entries, size_t count, const char *name);

// Returns the text of a file. `ptr` is NULL if there is none of the name.
// pack_text_of_file(request->files, "terms.csv")
#define pack_text_of_file(list, name) pack_find_file((list).ptr, (list).len, name)
pack_text pack_find_file(const pack_file *files, size_t count, const char *name);

// Returns a copy of `pattern` in which `{name}` is replaced by the value of that parameter.
// Braces around other names stay. pack_fill("Summarize: {text}", request->params)
#define pack_fill(pattern, list) pack_expand(pattern, (list).ptr, (list).len)
pack_text pack_expand(const char *pattern, const pack_entry *entries, size_t count);

// `realloc` that ends the call if the memory is exhausted. With NULL it allocates.
void *pack_realloc(void *ptr, size_t size);

pack_text pack_copy(const char *string);
bool pack_equal(pack_text text, const char *string);

// Appends a string or a text to `text`.
#define pack_add(text, added) \
    _Generic((added), char *: pack_add_string, const char *: pack_add_string, \
             pack_text: pack_add_text)(text, added)
void pack_add_string(pack_text *text, const char *string);
void pack_add_text(pack_text *text, pack_text added);
void pack_add_bytes(pack_text *text, const void *bytes, size_t count);
void pack_add_char(pack_text *text, uint32_t code_point);

// Returns the code point at the byte `*at`, and moves `*at` to the next one.
uint32_t pack_next_char(pack_text text, size_t *at);

// Add to what a prompt resolves to. The SDK takes `content`.
void pack_message(pack_resolved *resolved, pack_role role, pack_text content);
void pack_temperature(pack_resolved *resolved, double temperature);
// Other settings are in bindings.h:
// (pack_setting){.tag = LMSTRIX_PROMPTS_TYPES_SETTING_TOP_K, .val.top_k = 5}
void pack_add_setting(pack_resolved *resolved, pack_setting setting);
void pack_post(pack_resolved *resolved, const char *processor);

// pack_warn(&resolved->warnings, "…") or pack_warn(&outcome->warnings, "…")
void pack_warn(pack_texts *warnings, const char *message);

// Set the error and return false. `pack_reject` is for `push` and `finish`.
bool pack_fail(pack_error *error, const char *code, const char *message);
bool pack_invalid(pack_error *error, const char *param, const char *message);
// `line` starts at 1; 0 is no line.
bool pack_invalid_file(pack_error *error, const char *file, uint32_t line, const char *message);
bool pack_reject(pack_error *error, const char *message);

#endif
