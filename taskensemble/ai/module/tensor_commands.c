/* AI.TENSORSET and AI.TENSORGET: reading values and shapes, writing replies. */
#include "tensor_commands.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "limits.h"

#define BAD_SHAPE "ERR invalid or negative value found in tensor shape"
#define BAD_VALUE "ERR invalid value"
#define BAD_LENGTH "ERR data length does not match tensor shape and type"
#define BAD_STRINGS "ERR Number of string elements in data blob does not match tensor length"

/* ---- Reading ---- */

/* The dimensions from `argv` up to BLOB, VALUES or the end, none of them below `least`. Returns how many, or -1. */
static int parse_shape(RedisModuleString **argv, int argc, long long least, int64_t *dims) {
    int ndim = 0;
    while (ndim < argc && !argument_is(argv[ndim], "BLOB") && !argument_is(argv[ndim], "VALUES")) {
        long long dim;
        if (ndim == TENSOR_MAX_DIMENSIONS) return -1;
        if (server.StringToLongLong(argv[ndim], &dim) != API_OK || dim < least) return -1;
        dims[ndim++] = dim;
    }
    return ndim;
}

static int bools_valid(const char *data, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (data[i] != 0 && data[i] != 1) return 0;
    }
    return 1;
}

static Tensor *from_blob(ElementType type, const int64_t *dims, int ndim, RedisModuleString *blob, const char **error) {
    size_t length;
    const char *data = server.StringPtrLen(blob, &length);
    int64_t count = shape_count(dims, ndim);
    int fits = type == ELEMENT_STRING ? strings_well_formed(data, length, count) : length == (size_t)count * element_size(type);
    if (!fits) {
        *error = type == ELEMENT_STRING ? BAD_STRINGS : BAD_LENGTH;
        return NULL;
    }
    if (type == ELEMENT_BOOL && !bools_valid(data, length)) {
        *error = "ERR BOOL tensor elements must be 0 or 1";
        return NULL;
    }
    return tensor_create_on(type, dims, ndim, blob);
}

typedef struct IntegerRange {
    long long least;
    long long most;
} IntegerRange;

static IntegerRange integer_range(ElementType type) {
    switch (type) {
    case ELEMENT_INT8: return (IntegerRange){INT8_MIN, INT8_MAX};
    case ELEMENT_INT16: return (IntegerRange){INT16_MIN, INT16_MAX};
    case ELEMENT_INT32: return (IntegerRange){INT32_MIN, INT32_MAX};
    case ELEMENT_UINT8: return (IntegerRange){0, UINT8_MAX};
    case ELEMENT_UINT16: return (IntegerRange){0, UINT16_MAX};
    case ELEMENT_BOOL: return (IntegerRange){0, 1};
    default: return (IntegerRange){INT64_MIN, INT64_MAX};
    }
}

static int store_value(ElementType type, RedisModuleString *text, char *target) {
    if (type == ELEMENT_FLOAT || type == ELEMENT_DOUBLE) {
        double number;
        if (server.StringToDouble(text, &number) != API_OK) return 0;
        float narrow = (float)number;
        memcpy(target, type == ELEMENT_FLOAT ? (void *)&narrow : (void *)&number, element_size(type));
        return 1;
    }
    long long number;
    IntegerRange range = integer_range(type);
    if (server.StringToLongLong(text, &number) != API_OK || number < range.least || number > range.most) return 0;
    memcpy(target, &number, element_size(type)); /* little-endian: the low bytes come first */
    return 1;
}

static Tensor *from_numbers(ElementType type, const int64_t *dims, int ndim, RedisModuleString **values, const char **error) {
    int64_t count = shape_count(dims, ndim);
    size_t each = element_size(type);
    Tensor *tensor = tensor_create(type, dims, ndim, (size_t)count * each);
    if (!tensor) return NULL;
    for (int64_t i = 0; i < count; i++) {
        if (store_value(type, values[i], tensor_bytes(tensor) + (size_t)i * each)) continue;
        *error = BAD_VALUE;
        tensor_release(tensor);
        return NULL;
    }
    return tensor;
}

/* The length of a STRING value without the NUL that may end it; -1 if there is a NUL inside. */
static int64_t string_value_length(RedisModuleString *value) {
    size_t length;
    const char *data = server.StringPtrLen(value, &length);
    const char *nul = memchr(data, 0, length);
    if (!nul) return (int64_t)length;
    return (size_t)(nul - data) + 1 == length ? (int64_t)length - 1 : -1;
}

static Tensor *from_strings(const int64_t *dims, int ndim, RedisModuleString **values, const char **error) {
    int64_t count = shape_count(dims, ndim);
    size_t total = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t length = string_value_length(values[i]);
        if (length < 0) {
            *error = BAD_VALUE;
            return NULL;
        }
        total += (size_t)length + 1;
    }
    Tensor *tensor = tensor_create(ELEMENT_STRING, dims, ndim, total);
    if (!tensor) return NULL;
    char *at = tensor_bytes(tensor);
    for (int64_t i = 0; i < count; i++) {
        size_t length = (size_t)string_value_length(values[i]);
        memcpy(at, server.StringPtrLen(values[i], NULL), length);
        at[length] = 0;
        at += length + 1;
    }
    return tensor;
}

static Tensor *parse_data(ElementType type, const int64_t *dims, int ndim, RedisModuleString **argv, int argc, const char **error) {
    if (argc == 0) return tensor_create_zeros(type, dims, ndim);
    if (argument_is(argv[0], "BLOB")) {
        if (argc == 2) return from_blob(type, dims, ndim, argv[1], error);
        *error = "ERR a single binary string should come after the BLOB argument in 'AI.TENSORSET' command";
        return NULL;
    }
    if (shape_count(dims, ndim) != argc - 1) {
        *error = "ERR wrong number of values was given in 'AI.TENSORSET' command";
        return NULL;
    }
    if (type == ELEMENT_STRING) return from_strings(dims, ndim, argv + 1, error);
    return from_numbers(type, dims, ndim, argv + 1, error);
}

Tensor *tensorset_parse(RedisModuleString **argv, int argc, int repeated, const char **error) {
    int64_t dims[TENSOR_MAX_DIMENSIONS];
    if (argc < 4) {
        *error = "ERR wrong number of arguments for 'AI.TENSORSET' command";
        return NULL;
    }
    ElementType type = element_type_parse(server.StringPtrLen(argv[2], NULL));
    if (type == ELEMENT_NONE) {
        *error = "ERR invalid data type";
        return NULL;
    }
    int ndim = parse_shape(argv + 3, argc - 3, repeated ? 0 : 1, dims);
    if (ndim < 0 || (repeated ? shape_count(dims, ndim) < 0 : !shape_allowed(type, dims, ndim))) {
        *error = BAD_SHAPE;
        return NULL;
    }
    *error = "ERR not enough memory for this tensor";
    return parse_data(type, dims, ndim, argv + 3 + ndim, argc - 3 - ndim, error);
}

int tensorget_parse(RedisModuleString **argv, int argc, int *format, const char **error) {
    *format = 0;
    for (int i = 0; i < argc; i++) {
        if (argument_is(argv[i], "META")) {
            *format |= FORMAT_META;
        } else if (argument_is(argv[i], "BLOB")) {
            *format |= FORMAT_BLOB;
        } else if (argument_is(argv[i], "VALUES")) {
            *format |= FORMAT_VALUES;
        } else {
            *error = "ERR unsupported data format";
            return 0;
        }
    }
    if (argc == 0) *format = FORMAT_META | FORMAT_BLOB;
    if ((*format & FORMAT_BLOB) && (*format & FORMAT_VALUES)) {
        *error = "ERR both BLOB and VALUES specified";
        return 0;
    }
    return 1;
}

/* ---- Replying ---- */

/* The shortest decimal that reads back as the same number. */
static void reply_double(RedisModuleCtx *ctx, double number) {
    char text[40];
    int length = 0;
    if (number == 0 || (fabs(number) < 1e15 && number == trunc(number))) {
        length = snprintf(text, sizeof(text), "%s%lld", signbit(number) && number == 0 ? "-" : "", (long long)number);
    } else if (isnan(number)) {
        length = snprintf(text, sizeof(text), "nan");
    } else {
        for (int digits = 15; digits <= 17; digits++) {
            length = snprintf(text, sizeof(text), "%.*g", digits, number);
            if (strtod(text, NULL) == number) break;
        }
    }
    server.ReplyWithStringBuffer(ctx, text, (size_t)length);
}

static long long integer_at(ElementType type, const char *at) {
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    uint16_t u16;
    switch (type) {
    case ELEMENT_INT8: memcpy(&i8, at, sizeof(i8)); return i8;
    case ELEMENT_INT16: memcpy(&i16, at, sizeof(i16)); return i16;
    case ELEMENT_INT32: memcpy(&i32, at, sizeof(i32)); return i32;
    case ELEMENT_UINT16: memcpy(&u16, at, sizeof(u16)); return u16;
    case ELEMENT_INT64: memcpy(&i64, at, sizeof(i64)); return i64;
    default: return (unsigned char)*at;
    }
}

static void reply_number(RedisModuleCtx *ctx, ElementType type, const char *at) {
    if (type == ELEMENT_FLOAT) {
        float number;
        memcpy(&number, at, sizeof(number));
        reply_double(ctx, number);
    } else if (type == ELEMENT_DOUBLE) {
        double number;
        memcpy(&number, at, sizeof(number));
        reply_double(ctx, number);
    } else {
        server.ReplyWithLongLong(ctx, integer_at(type, at));
    }
}

static void reply_values(RedisModuleCtx *ctx, const Tensor *tensor) {
    int64_t count = tensor_count(tensor);
    const char *at = tensor_data(tensor);
    size_t each = element_size(tensor->type);
    server.ReplyWithArray(ctx, count);
    for (int64_t i = 0; i < count; i++) {
        if (tensor->type == ELEMENT_STRING) {
            size_t length = strlen(at);
            server.ReplyWithStringBuffer(ctx, at, length);
            at += length + 1;
        } else {
            reply_number(ctx, tensor->type, at);
            at += each;
        }
    }
}

static void reply_meta(RedisModuleCtx *ctx, const Tensor *tensor) {
    server.ReplyWithCString(ctx, "dtype");
    server.ReplyWithCString(ctx, element_type_name(tensor->type));
    server.ReplyWithCString(ctx, "shape");
    server.ReplyWithArray(ctx, tensor->ndim);
    for (int i = 0; i < tensor->ndim; i++) server.ReplyWithLongLong(ctx, tensor->dims[i]);
}

void tensor_reply(RedisModuleCtx *ctx, const Tensor *tensor, int format) {
    int data = format & (FORMAT_BLOB | FORMAT_VALUES);
    if (format & FORMAT_META) {
        server.ReplyWithArray(ctx, data ? 6 : 4);
        reply_meta(ctx, tensor);
        if (data) server.ReplyWithCString(ctx, format & FORMAT_BLOB ? "blob" : "values");
    }
    if (format & FORMAT_BLOB && tensor->held) {
        server.ReplyWithString(ctx, tensor->held); /* which some servers send without copying it */
    } else if (format & FORMAT_BLOB) {
        server.ReplyWithStringBuffer(ctx, tensor_data(tensor), tensor->length);
    } else if (format & FORMAT_VALUES) {
        reply_values(ctx, tensor);
    }
}

/* ---- The commands ---- */

int tensorset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    const char *error;
    if (argc < 4) return server.WrongArity(ctx);
    RedisModuleKey *key = server.OpenKey(ctx, argv[1], KEY_READ | KEY_WRITE);
    int type = server.KeyType(key);
    int free = type == KEYTYPE_EMPTY || (type == KEYTYPE_MODULE && server.ModuleTypeGetType(key) == tensor_type);
    Tensor *tensor = free ? tensorset_parse(argv, argc, is_repeated(ctx), &error) : NULL;
    if (!tensor) {
        server.CloseKey(key);
        return server.ReplyWithError(ctx, free ? error : WRONGTYPE);
    }
    server.ModuleTypeSetValue(key, tensor_type, tensor);
    server.CloseKey(key);
    server.ReplicateVerbatim(ctx);
    return server.ReplyWithSimpleString(ctx, "OK");
}

int tensorget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    const char *error;
    int format;
    if (argc < 2 || argc > 4) return server.WrongArity(ctx);
    const Tensor *tensor = tensor_find(ctx, argv[1], &error);
    if (!tensor || !tensorget_parse(argv + 2, argc - 2, &format, &error)) return server.ReplyWithError(ctx, error);
    tensor_reply(ctx, tensor, format);
    return API_OK;
}
