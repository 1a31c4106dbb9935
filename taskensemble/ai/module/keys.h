/* Which arguments of a command are keys, for clusters, ACLs and COMMAND GETKEYS. */
#ifndef TASKENSEMBLE_AI_KEYS_H
#define TASKENSEMBLE_AI_KEYS_H

#include "api.h"
#include "run.h"

/* Answers of commands whose keys stand at no fixed place (getkeys-api). */
int keys_of_run(RedisModuleCtx *ctx, RunCommand command, RedisModuleString **argv, int argc);
int keys_of_graph(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
/* Tells servers that have key specifications what each command does with its keys. */
void keys_describe(RedisModuleCtx *ctx);

#endif
