/* The AI module: what the server calls when it loads it, and the list of its commands.
 *
 * The module is a switchboard. It stores tensors (tensor.c), models and scripts (asset.c, model.c, script.c) as native types, reads
 * commands (tensor_commands.c, model_commands.c, script_commands.c, run.c, graph.c), turns those that compute into
 * requests with blocked callers (request.c), queues and batches them (queue.c), and hands them to inference workers,
 * which are clients of the same server (worker.c), in frames (unit.c) and shared memory (shm.c). It has no threads and
 * starts no processes: every line of it runs on the server's main thread, except for freeing values (later.c). */
#include "module.h"

#include <string.h>

#include "api.h"
#include "commands.h"
#include "keys.h"
#include "later.h"
#include "request.h"
#include "tensor.h"
#include "worker.h"

static const struct {
    const char *name;
    CommandFunction function;
    const char *flags;
    int has_key; /* the first argument is a key */
} commands[] = {
    {"AI.TENSORSET", tensorset_command, "write deny-oom", 1},
    {"AI.TENSORGET", tensorget_command, "readonly", 1},
    {"AI.MODELSTORE", modelstore_command, "write deny-oom", 1},
    {"AI.MODELSET", modelset_command, "write deny-oom", 1},
    {"AI.MODELGET", modelget_command, "readonly", 1},
    {"AI.MODELDEL", modeldel_command, "write", 1},
    {"AI.MODELEXECUTE", modelexecute_command, "write deny-oom getkeys-api", 1},
    {"AI.MODELRUN", modelrun_command, "write deny-oom getkeys-api", 1},
    {"AI._MODELSCAN", modelscan_command, "readonly", 0},
    {"AI.SCRIPTSTORE", scriptstore_command, "write deny-oom", 1},
    {"AI.SCRIPTSET", scriptset_command, "write deny-oom", 1},
    {"AI.SCRIPTGET", scriptget_command, "readonly", 1},
    {"AI.SCRIPTDEL", scriptdel_command, "write", 1},
    {"AI.SCRIPTEXECUTE", scriptexecute_command, "write deny-oom getkeys-api", 1},
    {"AI.SCRIPTRUN", scriptrun_command, "write deny-oom getkeys-api", 1},
    {"AI._SCRIPTSCAN", scriptscan_command, "readonly", 0},
    {"AI.DAGEXECUTE", dagexecute_command, "write deny-oom getkeys-api", 0},
    {"AI.DAGEXECUTE_RO", dagexecute_ro_command, "readonly getkeys-api", 0},
    {"AI.DAGRUN", dagrun_command, "write deny-oom getkeys-api", 0},
    {"AI.DAGRUN_RO", dagrun_ro_command, "readonly getkeys-api", 0},
    {"AI.INFO", info_command, "readonly", 1},
    {"AI.CONFIG", config_command, "readonly", 0},
    {"AI._WORKER", worker_command, "admin", 0},
};

/* Servers since Redis 7.2 do not take a command's ACL categories from its flags. */
static void describe_for_acl(RedisModuleCtx *ctx, const char *name, const char *flags) {
    if (!server.GetCommand || !server.SetCommandACLCategories) return;
    const char *categories = strncmp(flags, "write", 5) == 0 ? "write" : strncmp(flags, "admin", 5) == 0 ? "admin dangerous" : "read";
    server.SetCommandACLCategories(server.GetCommand(ctx, name), categories);
}

static int commands_register(RedisModuleCtx *ctx) {
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        int key = commands[i].has_key;
        if (server.CreateCommand(ctx, commands[i].name, commands[i].function, commands[i].flags, key, key, key) != API_OK) {
            return API_ERR;
        }
        describe_for_acl(ctx, commands[i].name, commands[i].flags);
    }
    keys_describe(ctx);
    return API_OK;
}

static void on_client_change(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)ctx;
    (void)event;
    if (subevent == CLIENT_CHANGE_DISCONNECTED) workers_client_gone(((const ClientInfo *)data)->id);
}

static void on_cron(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)ctx;
    (void)event;
    (void)subevent;
    (void)data;
    workers_tick();
}

static void on_event_loop(RedisModuleCtx *ctx, RedisModuleEvent event, uint64_t subevent, void *data) {
    (void)event;
    (void)data;
    if (subevent == EVENT_LOOP_BEFORE_SLEEP) requests_answer(ctx);
}

static int events_subscribe(RedisModuleCtx *ctx) {
    RedisModuleEvent client = {EVENT_CLIENT_CHANGE, 1};
    RedisModuleEvent cron = {EVENT_CRON_LOOP, 1};
    RedisModuleEvent event_loop = {EVENT_EVENT_LOOP, 1};
    if (server.SubscribeToServerEvent(ctx, client, on_client_change) != API_OK) return API_ERR;
    if (server.SubscribeToServerEvent(ctx, event_loop, on_event_loop) == API_OK) requests_answered_before_sleep();
    return server.SubscribeToServerEvent(ctx, cron, on_cron);
}

__attribute__((visibility("default"))) int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **argv, int argc);

int RedisModule_OnLoad(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (api_load(ctx) != API_OK) return API_ERR;
    later_begin();
    if (server.IsModuleNameBusy(MODULE_NAME)) return API_ERR;
    server.SetModuleAttribs(ctx, MODULE_NAME, MODULE_VERSION, API_VERSION_1);
    module_context = server.GetDetachedThreadSafeContext(ctx);
    if (!limits_read(ctx, argv, argc)) return API_ERR;
    if (tensor_type_register(ctx) != API_OK || model_type_register(ctx) != API_OK || script_type_register(ctx) != API_OK) {
        return API_ERR;
    }
    if (commands_register(ctx) != API_OK || events_subscribe(ctx) != API_OK) return API_ERR;
    server.SetModuleOptions(ctx, OPTION_HANDLE_IO_ERRORS);
    server.RegisterInfoFunc(ctx, info_section);
    module_started_ms();
    return API_OK;
}
