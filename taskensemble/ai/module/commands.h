/* What the command families share: opening keys, refusing, the commands themselves. */
#ifndef TASKENSEMBLE_AI_COMMANDS_H
#define TASKENSEMBLE_AI_COMMANDS_H

#include "api.h"
#include "asset.h"
#include "tensor.h"

/* Commands; each answers its caller and returns API_OK. */
int tensorset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int tensorget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int modelstore_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int modelset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int modelget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int modeldel_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int modelscan_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int scriptstore_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int scriptset_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int scriptget_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int scriptdel_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int scriptscan_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int modelexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int modelrun_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int scriptexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int scriptrun_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int dagexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int dagexecute_ro_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int dagrun_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int dagrun_ro_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int info_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
int config_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);
void info_section(RedisModuleInfoCtx *ctx, int for_crash_report);
/* Reads the arguments of MODULE LOAD. Returns 0, having logged why, if they are not understood. */
int limits_read(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

/* Replies with an error and returns 1 where a caller cannot be blocked: in MULTI, in scripts. */
int blocking_refused(RedisModuleCtx *ctx);
/* Whether the command comes from the master or from the append-only file: it is obeyed, not checked. */
int is_repeated(RedisModuleCtx *ctx);

/* The value of a key, borrowed; NULL with *error set to the reply if there is none or it has another type. */
Tensor *tensor_find(RedisModuleCtx *ctx, RedisModuleString *key, const char **error);
Asset *asset_find(RedisModuleCtx *ctx, RedisModuleString *key, AssetKind kind, const char **error);
/* Puts an asset (retained) into its key and tells replicas. Returns NULL, or the error reply. */
const char *asset_put(RedisModuleCtx *ctx, RedisModuleString *key, Asset *asset);
/* Loads an asset on a worker, then stores it; at once when the command is a repetition. Takes over the reference. */
int asset_store(RedisModuleCtx *ctx, RedisModuleString *key, Asset *asset);
/* AI.MODELDEL, AI.SCRIPTDEL */
int asset_delete(RedisModuleCtx *ctx, RedisModuleString **argv, int argc, AssetKind kind);
/* AI._MODELSCAN, AI._SCRIPTSCAN */
int asset_scan(RedisModuleCtx *ctx, int argc, AssetKind kind);
/* The device of a store: NULL if it is one, else the error reply. */
const char *device_error(const char *device, const char *const *keywords);

int argument_is(const RedisModuleString *argument, const char *keyword);
int64_t process_id(void);

#endif
