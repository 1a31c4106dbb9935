/* Byte runs, readers, checksums; see bytes.h. Numbers are little-endian on the wire and on every machine this is built for. */
#include "bytes.h"

#include <string.h>

#include "api.h"

char *bytes_extend(Bytes *bytes, size_t length) {
    size_t needed = bytes->length + length;
    if (needed > bytes->capacity) {
        size_t capacity = bytes->capacity ? bytes->capacity * 2 : 512;
        while (capacity < needed) capacity *= 2;
        if (capacity > 1 << 20) capacity = needed + needed / 8;
        bytes->data = server.Realloc(bytes->data, capacity);
        bytes->capacity = capacity;
    }
    char *place = bytes->data + bytes->length;
    bytes->length = needed;
    return place;
}

void bytes_append(Bytes *bytes, const void *data, size_t length) {
    if (length) memcpy(bytes_extend(bytes, length), data, length);
}

void bytes_append_u32(Bytes *bytes, uint32_t value) {
    bytes_append(bytes, &value, sizeof(value));
}

void bytes_pad(Bytes *bytes) {
    size_t missing = (8 - bytes->length % 8) % 8;
    if (missing) memset(bytes_extend(bytes, missing), 0, missing);
}

void bytes_reset(Bytes *bytes, size_t keep) {
    bytes->length = 0;
    if (bytes->capacity > keep) bytes_free(bytes);
}

void bytes_free(Bytes *bytes) {
    if (bytes->data) server.Free(bytes->data);
    *bytes = (Bytes){0};
}

Reader reader_of(const char *data, size_t length) {
    return (Reader){.at = data, .end = data + length, .start = data};
}

const char *reader_take(Reader *reader, size_t length) {
    if (reader->failed || length > (size_t)(reader->end - reader->at)) {
        reader->failed = 1;
        return NULL;
    }
    const char *taken = reader->at;
    size_t padded = (size_t)(taken - reader->start) + length;
    padded += (8 - padded % 8) % 8;
    size_t whole = (size_t)(reader->end - reader->start);
    reader->at = reader->start + (padded < whole ? padded : whole);
    return taken;
}

uint8_t load_u8(const char *at) {
    return (uint8_t)*at;
}

uint32_t load_u32(const char *at) {
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

int32_t load_i32(const char *at) {
    int32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

uint64_t load_u64(const char *at) {
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

void store_u8(char *at, uint8_t value) {
    *at = (char)value;
}

void store_u16(char *at, uint16_t value) {
    memcpy(at, &value, sizeof(value));
}

void store_u32(char *at, uint32_t value) {
    memcpy(at, &value, sizeof(value));
}

void store_u64(char *at, uint64_t value) {
    memcpy(at, &value, sizeof(value));
}

static uint64_t mix(uint64_t hash, uint64_t word) {
    hash ^= word * UINT64_C(0x9E3779B97F4A7C15);
    hash = (hash << 29) | (hash >> 35);
    return hash * UINT64_C(0xBF58476D1CE4E5B9) + UINT64_C(0x94D049BB133111EB);
}

/* Four independent lanes, so that the multiplications overlap. */
uint64_t checksum(const void *data, size_t length, uint64_t seed) {
    const char *at = data;
    uint64_t lanes[4] = {seed, seed + 1, seed + 2, seed + 3};
    size_t left = length;
    for (; left >= 32; left -= 32, at += 32) {
        for (int i = 0; i < 4; i++) lanes[i] = mix(lanes[i], load_u64(at + 8 * i));
    }
    for (; left > 0; left--, at++) lanes[left % 4] = mix(lanes[left % 4], (uint8_t)*at);
    uint64_t hash = mix(lanes[0], length);
    for (int i = 1; i < 4; i++) hash = mix(hash, lanes[i]);
    return hash ^ (hash >> 31);
}
