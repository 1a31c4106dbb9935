/* Tensors: the values of the native type AI_TENSOR, the inputs and the outputs of every run. */
#ifndef TASKENSEMBLE_AI_TENSOR_H
#define TASKENSEMBLE_AI_TENSOR_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "api.h"

/* The numbers are those of the worker protocol and of RDB files. */
typedef enum ElementType {
    ELEMENT_NONE = 0,
    ELEMENT_FLOAT = 1,
    ELEMENT_DOUBLE = 2,
    ELEMENT_INT8 = 3,
    ELEMENT_INT16 = 4,
    ELEMENT_INT32 = 5,
    ELEMENT_INT64 = 6,
    ELEMENT_UINT8 = 7,
    ELEMENT_UINT16 = 8,
    ELEMENT_BOOL = 9,
    ELEMENT_STRING = 10,
} ElementType;

enum { TENSOR_MAX_DIMENSIONS = 64 };

typedef struct Tensor {
    _Atomic uint32_t references;
    uint8_t type;
    uint8_t ndim;
    size_t length;           /* bytes of data */
    RedisModuleString *held; /* the command's argument that carries the data; NULL: they lie behind the dimensions */
    int64_t dims[];
} Tensor;

extern RedisModuleType *tensor_type;
int tensor_type_register(RedisModuleCtx *ctx);

ElementType element_type_parse(const char *name);
const char *element_type_name(ElementType type);
/* Bytes of one element; 0 for STRING. */
size_t element_size(ElementType type);

/* Number of elements of a shape; -1 if a dimension is negative or the product, times 8 bytes, is no number of bytes. */
int64_t shape_count(const int64_t *dims, int ndim);
/* Whether a new tensor of this type and shape stays within MAX_TENSOR_BYTES. */
int shape_allowed(ElementType type, const int64_t *dims, int ndim);

/* A tensor with room for `length` bytes of data, to be filled through tensor_bytes by the one who made it, who owns the only
 * reference. NULL if the memory is not to be had. */
Tensor *tensor_create(ElementType type, const int64_t *dims, int ndim, size_t length);
/* A tensor of zeros (empty strings for STRING), whose memory the system hands out as it is touched. */
Tensor *tensor_create_zeros(ElementType type, const int64_t *dims, int ndim);
/* A tensor whose data are bytes of a command's argument: nothing is copied, the argument is retained. */
Tensor *tensor_create_on(ElementType type, const int64_t *dims, int ndim, RedisModuleString *argument);
char *tensor_bytes(Tensor *tensor);
/* The data, good until the server gets control back: it trims retained arguments, which may move them, when the command ends. */
const char *tensor_data(const Tensor *tensor);
Tensor *tensor_retain(Tensor *tensor);
void tensor_release(Tensor *tensor);

int64_t tensor_count(const Tensor *tensor);
/* Whether `length` bytes are `count` strings, each ended by its only NUL. */
int strings_well_formed(const char *data, size_t length, int64_t count);
/* Whether a and b agree in type and in every dimension but the 0th. */
int tensor_batchable_with(const Tensor *a, const Tensor *b);
/* Samples along dimension 0 that start at `first`: where they lie in the data and how long they are. */
void tensor_slice(const char *data, size_t length, ElementType type, int64_t samples, int64_t elements_each, int64_t first,
                  int64_t count, size_t *offset, size_t *size);

/* Sends AI.TENSORSET with this value to replicas and the append-only file. */
void tensor_replicate(RedisModuleCtx *ctx, RedisModuleString *key, const Tensor *tensor);

#endif
