// Memory and text.
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "lmstrix_pack.h"

// Not inlined, so that the error of the host has its name.
__attribute__((noinline)) static void out_of_memory(void) { __builtin_trap(); }

void *pack_realloc(void *ptr, size_t size) {
    ptr = realloc(ptr, size);
    if (!ptr) out_of_memory();
    return ptr;
}

void pack_add_bytes(pack_text *text, const void *bytes, size_t count) {
    if (count == 0) return;
    // The address of an empty text need not be one of `malloc`.
    if (text->len == 0) text->ptr = NULL;
    size_t capacity = malloc_usable_size(text->ptr);
    size_t needed = text->len + count;
    if (needed < count) out_of_memory();
    if (needed > capacity) {
        size_t doubled = 2 * capacity;
        text->ptr = pack_realloc(text->ptr, needed > doubled ? needed : doubled);
    }
    memcpy(text->ptr + text->len, bytes, count);
    text->len = needed;
}

void pack_add_string(pack_text *text, const char *string) {
    pack_add_bytes(text, string, strlen(string));
}

void pack_add_text(pack_text *text, pack_text added) {
    pack_add_bytes(text, added.ptr, added.len);
}

void pack_add_char(pack_text *text, uint32_t c) {
    int rest = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    uint8_t bytes[4];
    for (int i = rest; i > 0; i--, c >>= 6) bytes[i] = 0x80 | (c & 0x3F);
    static const uint8_t marks[] = {0, 0xC0, 0xE0, 0xF0};
    bytes[0] = marks[rest] | c;
    pack_add_bytes(text, bytes, rest + 1);
}

uint32_t pack_next_char(pack_text text, size_t *at) {
    uint32_t c = text.ptr[(*at)++];
    if (c < 0x80) return c;
    int rest = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
    c &= 0x3F >> rest;
    while (rest-- > 0 && *at < text.len) c = c << 6 | (text.ptr[(*at)++] & 0x3F);
    return c;
}

pack_text pack_copy(const char *string) {
    pack_text text = {0};
    pack_add_string(&text, string);
    return text;
}

static bool equal(pack_text text, const char *bytes, size_t count) {
    return text.len == count && (count == 0 || memcmp(text.ptr, bytes, count) == 0);
}

bool pack_equal(pack_text text, const char *string) { return equal(text, string, strlen(string)); }

static const pack_entry *find(const pack_entry *entries, size_t count, const char *name,
                              size_t length) {
    for (size_t i = 0; i < count; i++)
        if (equal(entries[i].key, name, length)) return &entries[i];
    return NULL;
}

pack_text pack_find(const pack_entry *entries, size_t count, const char *name) {
    const pack_entry *entry = find(entries, count, name, strlen(name));
    return entry ? entry->value : (pack_text){0};
}

pack_text pack_find_file(const pack_file *files, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (pack_equal(files[i].name, name)) return files[i].text;
    return (pack_text){0};
}

pack_text pack_expand(const char *pattern, const pack_entry *entries, size_t count) {
    pack_text text = {0};
    for (const char *open; (open = strchr(pattern, '{'));) {
        const char *name = open + 1;
        size_t length = strcspn(name, "{}");
        const pack_entry *entry = name[length] == '}' ? find(entries, count, name, length) : NULL;
        pack_add_bytes(&text, pattern, (entry ? open : name) - pattern);
        if (entry) pack_add_text(&text, entry->value);
        pattern = entry ? name + length + 1 : name;
    }
    pack_add_string(&text, pattern);
    return text;
}
