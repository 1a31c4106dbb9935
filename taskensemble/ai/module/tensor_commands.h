/* AI.TENSORSET and AI.TENSORGET, as commands and inside graphs. */
#ifndef TASKENSEMBLE_AI_TENSOR_COMMANDS_H
#define TASKENSEMBLE_AI_TENSOR_COMMANDS_H

#include "api.h"
#include "tensor.h"

enum { FORMAT_META = 1, FORMAT_BLOB = 2, FORMAT_VALUES = 4 };

/* Reads AI.TENSORSET key type ...; argv[0] is the command's name. `repeated`: it tells of a tensor that a primary or an append-only file
 * holds, so it may be empty, as outputs may, and of any size. Returns a new tensor, or NULL with the reply in *error. */
Tensor *tensorset_parse(RedisModuleString **argv, int argc, int repeated, const char **error);
/* Reads what follows the key of AI.TENSORGET. Returns 0 with the reply in *error. */
int tensorget_parse(RedisModuleString **argv, int argc, int *format, const char **error);
void tensor_reply(RedisModuleCtx *ctx, const Tensor *tensor, int format);

#endif
