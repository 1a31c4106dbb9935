/* Memory that cannot change: sealed memfds, in which a model's bytes pass between processes of a host. */
#ifndef TASKENSEMBLE_AI_SEALED_H
#define TASKENSEMBLE_AI_SEALED_H

#include <stddef.h>
#include <stdint.h>

#include "api.h"

/* Opens the memfd that another process holds under a descriptor, if it is named `taskensemble-<digest>` and sealed. Returns a
 * descriptor for sealed_close, with *length set, or -1. */
int sealed_open(int64_t pid, int64_t descriptor, const char *digest, size_t *length);
/* A sealed memfd with these bytes; -1 if the system or SHARED_MEMORY refuses. */
int sealed_create(const char *data, size_t length);
/* A string of all `length` bytes, or NULL. */
RedisModuleString *sealed_copy(int fd, size_t length);
void sealed_close(int fd, size_t length);
/* Bytes of all that are open here. */
size_t sealed_total(void);

#endif
