/* A growing run of bytes, in which frames and messages are put together. */
#ifndef TASKENSEMBLE_AI_BYTES_H
#define TASKENSEMBLE_AI_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* All zero is an empty run. `data` belongs to the run. */
typedef struct Bytes {
    char *data;
    size_t length;
    size_t capacity;
} Bytes;

/* Makes the run longer by `length` bytes, whose content is undefined, and returns the first of them. The pointer is good until
 * the next change. */
char *bytes_extend(Bytes *bytes, size_t length);
void bytes_append(Bytes *bytes, const void *data, size_t length);
void bytes_append_u32(Bytes *bytes, uint32_t value);
/* Fills up with zeros to the next multiple of 8. */
void bytes_pad(Bytes *bytes);
/* Empties the run, and gives its memory back where it has become larger than `keep`. */
void bytes_reset(Bytes *bytes, size_t keep);
void bytes_free(Bytes *bytes);

/* Reading what somebody else wrote: a cursor that never passes the end. Every function returns 0 once something was
 * missing, and `failed` stays set. */
typedef struct Reader {
    const char *at;
    const char *end;
    const char *start;
    int failed;
} Reader;

Reader reader_of(const char *data, size_t length);
/* Returns `length` bytes in place and steps over them and their padding to a multiple of 8; NULL if they are not there. */
const char *reader_take(Reader *reader, size_t length);
uint8_t load_u8(const char *at);
uint32_t load_u32(const char *at);
int32_t load_i32(const char *at);
uint64_t load_u64(const char *at);
void store_u8(char *at, uint8_t value);
void store_u16(char *at, uint16_t value);
void store_u32(char *at, uint32_t value);
void store_u64(char *at, uint64_t value);

/* A 64-bit checksum of bytes, for telling damaged values in RDB files; not cryptographic. */
uint64_t checksum(const void *data, size_t length, uint64_t seed);

#endif
