// The contract, implemented with the tables of the pack.
#include "lmstrix_pack.h"

#include <stdlib.h>
#include <string.h>

// The tag of an error that is not set.
#define NO_ERROR 0xFF

// Appends a zeroed item to a list of the contract, and evaluates to its address.
#define APPEND(list) \
    ((list)->ptr = add_item((list)->ptr, (list)->len, sizeof *(list)->ptr), \
     &(list)->ptr[(list)->len++])

static void *add_item(void *items, size_t count, size_t size) {
    // The capacity of a list is the next power of two.
    if ((count & (count - 1)) == 0) items = pack_realloc(items, (count ? 2 * count : 1) * size);
    memset((char *)items + count * size, 0, size);
    return items;
}

void pack_message(pack_resolved *resolved, pack_role role, pack_text content) {
    lmstrix_prompts_types_message_t *message = APPEND(&resolved->input.val.chat);
    message->role = role;
    message->content = content;
}

void pack_add_setting(pack_resolved *resolved, pack_setting setting) {
    *APPEND(&resolved->settings) = setting;
}

void pack_temperature(pack_resolved *resolved, double temperature) {
    pack_add_setting(resolved, (pack_setting){.tag = LMSTRIX_PROMPTS_TYPES_SETTING_TEMPERATURE,
                                              .val.temperature = temperature});
}

void pack_post(pack_resolved *resolved, const char *processor) {
    APPEND(&resolved->post)->name = pack_copy(processor);
}

void pack_warn(pack_texts *warnings, const char *message) {
    *APPEND(warnings) = pack_copy(message);
}

static bool fail_with(pack_error *error, uint8_t tag, const char *first, const char *second) {
    // `invalid_param` and `other` have the same layout.
    *error = (pack_error){.tag = tag, .val.other = {pack_copy(first), pack_copy(second)}};
    return false;
}

bool pack_fail(pack_error *error, const char *code, const char *message) {
    return fail_with(error, LMSTRIX_PROMPTS_TYPES_ERROR_OTHER, code, message);
}

bool pack_invalid(pack_error *error, const char *param, const char *message) {
    return fail_with(error, LMSTRIX_PROMPTS_TYPES_ERROR_INVALID_PARAM, param, message);
}

bool pack_invalid_file(pack_error *error, const char *file, uint32_t line, const char *message) {
    *error = (pack_error){.tag = LMSTRIX_PROMPTS_TYPES_ERROR_INVALID_FILE};
    error->val.invalid_file.file = pack_copy(file);
    error->val.invalid_file.line.is_some = line > 0;
    error->val.invalid_file.line.val = line;
    error->val.invalid_file.message = pack_copy(message);
    return false;
}

bool pack_reject(pack_error *error, const char *message) {
    error->tag = LMSTRIX_PROMPTS_TYPES_ERROR_REJECTED;
    error->val.rejected = pack_copy(message);
    return false;
}

// Returns `ok`, and sets the error if the pack's function failed without one.
static bool checked(bool ok, pack_error *error) {
    if (!ok && error->tag == NO_ERROR) pack_fail(error, "error", "returned false without an error");
    return ok;
}

// `describe` and `resolve` do not free their arguments: the instance ends with the call.

static void add_params(exports_lmstrix_prompts_catalog_list_param_info_t *list,
                       const pack_param *param) {
    for (; param && param->name; param++) {
        exports_lmstrix_prompts_catalog_param_info_t *info = APPEND(list);
        info->name = pack_copy(param->name);
        info->summary = pack_copy(param->summary);
        info->required = param->required;
        info->default_.is_some = param->fallback != NULL;
        if (param->fallback) info->default_.val = pack_copy(param->fallback);
    }
}

bool exports_lmstrix_prompts_catalog_describe(exports_lmstrix_prompts_catalog_list_file_t *files,
                                              exports_lmstrix_prompts_catalog_contents_t *contents,
                                              pack_error *error) {
    memset(contents, 0, sizeof *contents);
    contents->summary = pack_copy(pack_contents.summary);
#ifdef PACK_RESOLVER
    for (const pack_prompt *prompt = pack_contents.prompts; prompt && prompt->name; prompt++) {
        exports_lmstrix_prompts_catalog_prompt_info_t *info = APPEND(&contents->prompts);
        info->name = pack_copy(prompt->name);
        info->summary = pack_copy(prompt->summary);
        add_params(&info->params, prompt->params);
        if (prompt->any_params) {
            pack_entry *entry = APPEND(&info->extra);
            *entry = (pack_entry){pack_copy("any-params"), pack_copy("true")};
        }
    }
#endif
#ifdef PACK_PROCESSOR
    for (const pack_processor *info = pack_contents.processors; info && info->name; info++) {
        exports_lmstrix_prompts_catalog_processor_info_t *added = APPEND(&contents->processors);
        added->name = pack_copy(info->name);
        added->summary = pack_copy(info->summary);
        add_params(&added->options, info->options);
    }
#endif
    return true;
}

#ifdef PACK_RESOLVER
bool exports_lmstrix_prompts_resolver_resolve(pack_request *request, pack_resolved *resolved,
                                              pack_error *error) {
    memset(resolved, 0, sizeof *resolved);
    error->tag = NO_ERROR;
    const pack_prompt *prompt = pack_contents.prompts;
    for (; prompt && prompt->name; prompt++)
        if (pack_equal(request->prompt, prompt->name))
            return checked(prompt->resolve(request, resolved, error), error);
    *error = (pack_error){.tag = LMSTRIX_PROMPTS_TYPES_ERROR_UNKNOWN_PROMPT};
    for (prompt = pack_contents.prompts; prompt && prompt->name; prompt++)
        *APPEND(&error->val.unknown_prompt) = pack_copy(prompt->name);
    return false;
}
#endif

#ifdef PACK_PROCESSOR
typedef exports_lmstrix_prompts_post_processor_own_processor_t own_processor;

struct exports_lmstrix_prompts_post_processor_processor_t {
    const pack_processor *functions;
    pack_context context;
    void *state;
};
typedef exports_lmstrix_prompts_post_processor_processor_t processor;

static bool open_processor(const pack_processor *functions, const pack_context *context,
                           own_processor *opened, pack_error *error) {
    processor *self = pack_realloc(NULL, sizeof *self);
    *self = (processor){functions, *context, pack_realloc(NULL, functions->state_size + 1)};
    memset(self->state, 0, functions->state_size);
    error->tag = NO_ERROR;
    bool ok = !functions->open || functions->open(self->state, &self->context, error);
    if (!ok) return checked(false, error);
    *opened = exports_lmstrix_prompts_post_processor_processor_new(self);
    return true;
}

bool exports_lmstrix_prompts_post_processor_static_processor_open(
    pack_context *context, own_processor *opened, pack_error *error) {
    const pack_processor *info = pack_contents.processors;
    for (; info && info->name; info++)
        if (pack_equal(context->processor, info->name))
            return open_processor(info, context, opened, error);
    *error = (pack_error){.tag = LMSTRIX_PROMPTS_TYPES_ERROR_UNKNOWN_PROCESSOR};
    for (info = pack_contents.processors; info && info->name; info++)
        *APPEND(&error->val.unknown_processor) = pack_copy(info->name);
    return false;
}

bool exports_lmstrix_prompts_post_processor_method_processor_push(
    processor *self, pack_text *chunk, pack_pushed *pushed, pack_error *error) {
    memset(pushed, 0, sizeof *pushed);
    error->tag = NO_ERROR;
    // The address of an empty text is not one of `malloc`.
    if (chunk->len == 0) chunk->ptr = NULL;
    if (!self->functions->push) pushed->text = *chunk;
    bool ok = !self->functions->push || self->functions->push(self->state, *chunk, pushed, error);
    if (pushed->text.ptr != chunk->ptr) bindings_string_free(chunk);
    return checked(ok, error);
}

bool exports_lmstrix_prompts_post_processor_method_processor_finish(
    processor *self, pack_stop *stop, pack_outcome *outcome, pack_error *error) {
    memset(outcome, 0, sizeof *outcome);
    error->tag = NO_ERROR;
    const pack_processor *functions = self->functions;
    bool ok = !functions->finish || functions->finish(self->state, stop, outcome, error);
    exports_lmstrix_prompts_post_processor_stop_free(stop);
    return checked(ok, error);
}

void exports_lmstrix_prompts_post_processor_processor_destructor(processor *self) {
    if (self->functions->close) self->functions->close(self->state);
    free(self->state);
    exports_lmstrix_prompts_post_processor_context_free(&self->context);
    free(self);
}
#endif
