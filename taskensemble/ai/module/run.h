/* The commands that run something: their grammar, apart from what their names mean. */
#ifndef TASKENSEMBLE_AI_RUN_H
#define TASKENSEMBLE_AI_RUN_H

#include "api.h"
#include "request.h"

/* A run as its command says it, in terms of the command's own arguments. Lists may have gaps filled later: they are counts and
 * pointers into argv. */
typedef struct RunCall {
    AssetKind kind;
    const char *command; /* as registered */
    RedisModuleString *asset;
    RedisModuleString *function;
    int list_start; /* `$` of AI.SCRIPTRUN: index in inputs, or -1 */
    int list_gap;   /* inputs from this index on stand one argument later in argv, behind the `$` */
    int input_count;
    RedisModuleString **inputs;
    int output_count;
    RedisModuleString **outputs;
    int key_count;
    RedisModuleString **keys;
    int argument_count;
    RedisModuleString **arguments;
    long long timeout; /* ms, 0: none */
} RunCall;

typedef enum RunCommand { RUN_NONE, RUN_MODELEXECUTE, RUN_MODELRUN, RUN_SCRIPTEXECUTE, RUN_SCRIPTRUN } RunCommand;

enum { RUN_LIST_MAX = 32767 };

/* Which of them a name is, in any case. */
RunCommand run_command(RedisModuleString *name);
/* Reads the whole command; argv[0] is its name. Returns NULL, or the reply (good until the next call). */
const char *run_parse(RunCommand command, RedisModuleString **argv, int argc, RunCall *call);
RedisModuleString *run_input(const RunCall *call, int index);
/* Finds the asset and fills the step, without its inputs. Returns NULL, or the reply. */
const char *run_bind(RedisModuleCtx *ctx, const RunCall *call, Step *step);

#endif
