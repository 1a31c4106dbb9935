/* The native type AI_TENSOR.
 *
 * A tensor never changes once it is in a key or in a request: AI.TENSORSET and every output put a new one in its place. So a
 * request takes a reference instead of a copy, and a key may be deleted, expire, be evicted or flushed while a run that
 * reads its tensor is on its way. The count is atomic because FLUSHALL ASYNC and UNLINK free values on a thread of the
 * server.
 *
 * The data lie behind the dimensions in one allocation, or, when a client sent them as one large argument, in that argument,
 * which is retained: storing a megabyte copies nothing. STRING data are the elements one behind the other, each ended by a
 * NUL.
 *
 * In RDB files (and DUMP) a value is: type, number of dimensions, dimensions, data, checksum. The checksum covers all of it,
 * so a payload with flipped bytes is refused even when its own CRC was recomputed. */
#include "tensor.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "bytes.h"
#include "later.h"
#include "limits.h"

enum { ENCODING_VERSION = 100, LARGE_ARGUMENT = 32 * 1024, PAGE = 64 * 1024 };

RedisModuleType *tensor_type;

static const struct {
    const char *name;
    size_t size;
} element_types[] = {
    [ELEMENT_FLOAT] = {"FLOAT", 4}, [ELEMENT_DOUBLE] = {"DOUBLE", 8}, [ELEMENT_INT8] = {"INT8", 1},
    [ELEMENT_INT16] = {"INT16", 2}, [ELEMENT_INT32] = {"INT32", 4},   [ELEMENT_INT64] = {"INT64", 8},
    [ELEMENT_UINT8] = {"UINT8", 1}, [ELEMENT_UINT16] = {"UINT16", 2}, [ELEMENT_BOOL] = {"BOOL", 1},
    [ELEMENT_STRING] = {"STRING", 0},
};

ElementType element_type_parse(const char *name) {
    for (int type = ELEMENT_FLOAT; type <= ELEMENT_STRING; type++) {
        if (strcasecmp(name, element_types[type].name) == 0) return (ElementType)type;
    }
    return ELEMENT_NONE;
}

const char *element_type_name(ElementType type) {
    return element_types[type].name;
}

size_t element_size(ElementType type) {
    return element_types[type].size;
}

int64_t shape_count(const int64_t *dims, int ndim) {
    int64_t count = 1;
    for (int i = 0; i < ndim; i++) {
        if (dims[i] < 0) return -1;
        if (dims[i] != 0 && count > INT64_MAX / 8 / dims[i]) return -1;
        count *= dims[i];
    }
    return count;
}

int shape_allowed(ElementType type, const int64_t *dims, int ndim) {
    int64_t count = shape_count(dims, ndim);
    int64_t each = type == ELEMENT_STRING ? 1 : (int64_t)element_size(type);
    return count >= 0 && count <= limits.tensor_bytes / each;
}

static Tensor *tensor_header_in(void *memory, ElementType type, const int64_t *dims, int ndim) {
    Tensor *tensor = memory;
    if (!tensor) return NULL;
    atomic_init(&tensor->references, 1);
    tensor->type = (uint8_t)type;
    tensor->ndim = (uint8_t)ndim;
    tensor->held = NULL;
    if (ndim) memcpy(tensor->dims, dims, (size_t)ndim * sizeof(int64_t));
    return tensor;
}

static size_t tensor_allocation(int ndim, size_t room) {
    return sizeof(Tensor) + (size_t)ndim * sizeof(int64_t) + room;
}

static Tensor *tensor_header(ElementType type, const int64_t *dims, int ndim, size_t room) {
    size_t size = tensor_allocation(ndim, room);
    return tensor_header_in(server.TryAlloc ? server.TryAlloc(size) : server.Alloc(size), type, dims, ndim);
}

Tensor *tensor_create(ElementType type, const int64_t *dims, int ndim, size_t length) {
    Tensor *tensor = tensor_header(type, dims, ndim, length);
    if (!tensor) return NULL;
    tensor->length = length;
    return tensor;
}

Tensor *tensor_create_zeros(ElementType type, const int64_t *dims, int ndim) {
    size_t each = type == ELEMENT_STRING ? 1 : element_size(type);
    size_t length = (size_t)shape_count(dims, ndim) * each;
    size_t size = tensor_allocation(ndim, length);
    void *memory = server.TryCalloc ? server.TryCalloc(1, size) : server.Calloc(1, size);
    Tensor *tensor = tensor_header_in(memory, type, dims, ndim);
    if (!tensor) return NULL;
    tensor->length = length;
    return tensor;
}

Tensor *tensor_create_on(ElementType type, const int64_t *dims, int ndim, RedisModuleString *argument) {
    size_t length;
    const char *data = server.StringPtrLen(argument, &length);
    if (length < LARGE_ARGUMENT) {
        Tensor *small = tensor_create(type, dims, ndim, length);
        if (small && length) memcpy(tensor_bytes(small), data, length);
        return small;
    }
    Tensor *tensor = tensor_header(type, dims, ndim, 0);
    if (!tensor) return NULL;
    server.RetainString(NULL, argument);
    tensor->held = argument;
    tensor->length = length;
    return tensor;
}

const char *tensor_data(const Tensor *tensor) {
    return tensor->held ? server.StringPtrLen(tensor->held, NULL) : (const char *)&tensor->dims[tensor->ndim];
}

char *tensor_bytes(Tensor *tensor) {
    return (char *)&tensor->dims[tensor->ndim];
}

Tensor *tensor_retain(Tensor *tensor) {
    atomic_fetch_add_explicit(&tensor->references, 1, memory_order_relaxed);
    return tensor;
}

static void free_string(void *string) {
    server.FreeString(NULL, string);
}

void tensor_release(Tensor *tensor) {
    if (atomic_fetch_sub_explicit(&tensor->references, 1, memory_order_acq_rel) != 1) return;
    if (tensor->held) later(free_string, tensor->held);
    server.Free(tensor);
}

int64_t tensor_count(const Tensor *tensor) {
    return shape_count(tensor->dims, tensor->ndim);
}

int strings_well_formed(const char *data, size_t length, int64_t count) {
    int64_t found = 0;
    const char *end = data + length;
    while (data < end) {
        const char *nul = memchr(data, 0, (size_t)(end - data));
        if (!nul) return 0;
        found++;
        data = nul + 1;
    }
    return found == count;
}

int tensor_batchable_with(const Tensor *a, const Tensor *b) {
    if (a->type != b->type || a->ndim != b->ndim || a->ndim == 0) return 0;
    return memcmp(a->dims + 1, b->dims + 1, (size_t)(a->ndim - 1) * sizeof(int64_t)) == 0;
}

static size_t strings_span(const char *data, size_t length, int64_t count) {
    const char *at = data;
    const char *end = data + length;
    for (; count > 0 && at < end; count--) {
        const char *nul = memchr(at, 0, (size_t)(end - at));
        at = nul ? nul + 1 : end;
    }
    return (size_t)(at - data);
}

void tensor_slice(const char *data, size_t length, ElementType type, int64_t samples, int64_t elements_each, int64_t first,
                  int64_t count, size_t *offset, size_t *size) {
    if (type != ELEMENT_STRING) {
        size_t each = samples ? length / (size_t)samples : 0;
        *offset = each * (size_t)first;
        *size = each * (size_t)count;
        return;
    }
    *offset = strings_span(data, length, first * elements_each);
    *size = strings_span(data + *offset, length - *offset, count * elements_each);
}

/* ---- The type's methods ---- */

static uint64_t tensor_checksum(const Tensor *tensor) {
    uint64_t hash = checksum(tensor->dims, tensor->ndim * sizeof(int64_t), tensor->type);
    return checksum(tensor_data(tensor), tensor->length, hash);
}

static void tensor_rdb_save(RedisModuleIO *rdb, void *value) {
    const Tensor *tensor = value;
    server.SaveUnsigned(rdb, tensor->type);
    server.SaveUnsigned(rdb, tensor->ndim);
    for (int i = 0; i < tensor->ndim; i++) server.SaveUnsigned(rdb, (uint64_t)tensor->dims[i]);
    server.SaveStringBuffer(rdb, tensor_data(tensor), tensor->length);
    server.SaveUnsigned(rdb, tensor_checksum(tensor));
}

/* Whether data of this length can belong to the type and shape. */
static int data_fits(ElementType type, int64_t count, const char *data, size_t length) {
    if (type == ELEMENT_STRING) return strings_well_formed(data, length, count);
    return length == (size_t)count * element_size(type);
}

static Tensor *tensor_from_rdb(RedisModuleIO *rdb) {
    uint64_t type = server.LoadUnsigned(rdb);
    uint64_t ndim = server.LoadUnsigned(rdb);
    if (server.IsIOError(rdb) || type < ELEMENT_FLOAT || type > ELEMENT_STRING || ndim > TENSOR_MAX_DIMENSIONS) return NULL;
    int64_t dims[TENSOR_MAX_DIMENSIONS];
    for (uint64_t i = 0; i < ndim; i++) dims[i] = (int64_t)server.LoadUnsigned(rdb);
    if (server.IsIOError(rdb)) return NULL;
    int64_t count = shape_count(dims, (int)ndim);
    RedisModuleString *data = server.LoadString(rdb);
    if (server.IsIOError(rdb) || !data) {
        if (data) server.FreeString(NULL, data);
        return NULL;
    }
    size_t length;
    const char *bytes = server.StringPtrLen(data, &length);
    Tensor *tensor = NULL;
    if (count >= 0 && data_fits((ElementType)type, count, bytes, length)) {
        tensor = tensor_create_on((ElementType)type, dims, (int)ndim, data);
    }
    server.FreeString(NULL, data);
    uint64_t sum = server.LoadUnsigned(rdb);
    if (tensor && (server.IsIOError(rdb) || sum != tensor_checksum(tensor))) {
        tensor_release(tensor);
        tensor = NULL;
    }
    return tensor;
}

static void *tensor_rdb_load(RedisModuleIO *rdb, int encoding_version) {
    Tensor *tensor = encoding_version == ENCODING_VERSION ? tensor_from_rdb(rdb) : NULL;
    if (!tensor) server.LogIOError(rdb, LOG_WARNING, "damaged AI_TENSOR value, or one of another version: refused");
    return tensor;
}

/* The dimensions as texts, for commands that are sent on. Fills `texts` with strings that the caller frees. */
static void dimension_strings(const Tensor *tensor, RedisModuleString **texts) {
    for (int i = 0; i < tensor->ndim; i++) {
        char digits[24];
        int length = snprintf(digits, sizeof(digits), "%lld", (long long)tensor->dims[i]);
        texts[i] = server.CreateString(NULL, digits, (size_t)length);
    }
}

static void free_strings(RedisModuleString **texts, int count) {
    for (int i = 0; i < count; i++) server.FreeString(NULL, texts[i]);
}

static void tensor_aof_rewrite(RedisModuleIO *aof, RedisModuleString *key, void *value) {
    const Tensor *tensor = value;
    RedisModuleString *dims[TENSOR_MAX_DIMENSIONS];
    dimension_strings(tensor, dims);
    server.EmitAOF(aof, "AI.TENSORSET", "scvcb", key, element_type_name(tensor->type), dims, (size_t)tensor->ndim, "BLOB",
                   tensor_data(tensor), tensor->length);
    free_strings(dims, tensor->ndim);
}

void tensor_replicate(RedisModuleCtx *ctx, RedisModuleString *key, const Tensor *tensor) {
    RedisModuleString *dims[TENSOR_MAX_DIMENSIONS];
    dimension_strings(tensor, dims);
    server.Replicate(ctx, "AI.TENSORSET", "scvcb", key, element_type_name(tensor->type), dims, (size_t)tensor->ndim, "BLOB",
                     tensor_data(tensor), tensor->length);
    free_strings(dims, tensor->ndim);
}

static size_t tensor_memory_usage(const void *value) {
    const Tensor *tensor = value;
    return sizeof(Tensor) + tensor->ndim * sizeof(int64_t) + tensor->length;
}

static void tensor_digest(RedisModuleDigest *digest, void *value) {
    const Tensor *tensor = value;
    server.DigestAddLongLong(digest, tensor->type);
    for (int i = 0; i < tensor->ndim; i++) server.DigestAddLongLong(digest, tensor->dims[i]);
    server.DigestAddStringBuffer(digest, tensor_data(tensor), tensor->length);
    server.DigestEndSequence(digest);
}

static void tensor_free(void *value) {
    tensor_release(value);
}

/* In units of pages to give back: UNLINK of a large tensor goes to the server's thread. */
static size_t tensor_free_effort(RedisModuleString *key, const void *value) {
    (void)key;
    return 1 + ((const Tensor *)value)->length / PAGE;
}

static void *tensor_copy(RedisModuleString *from, RedisModuleString *to, const void *value) {
    (void)from;
    (void)to;
    return tensor_retain((Tensor *)(uintptr_t)value);
}

int tensor_type_register(RedisModuleCtx *ctx) {
    TypeMethods methods = {
        .version = TYPE_METHODS_VERSION,
        .rdb_load = tensor_rdb_load,
        .rdb_save = tensor_rdb_save,
        .aof_rewrite = tensor_aof_rewrite,
        .memory_usage = tensor_memory_usage,
        .digest = tensor_digest,
        .free = tensor_free,
        .free_effort = tensor_free_effort,
        .copy = tensor_copy,
    };
    tensor_type = server.CreateDataType(ctx, "AI_TENSOR", ENCODING_VERSION, &methods);
    return tensor_type ? API_OK : API_ERR;
}
