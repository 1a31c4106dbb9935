/* Inference workers.
 *
 * A worker is a client that said JOIN; its life is its connection's. It is either idle, with its NEXT blocked, in its lane's list of
 * idle workers; or waking: its NEXT returns before the server sleeps again, and only then its unit is put together, from everything
 * that has arrived until then; or it has a unit. The last worker to become idle is woken first: it may still be polling its
 * socket.
 *
 * Death of a worker (its connection closes, its unit is overdue, its answer is malformed): its jobs go back to the head of their
 * queues to be tried alone, once (unit_lost). */
#include "worker.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "asset.h"
#include "commands.h"
#include "figures.h"
#include "later.h"
#include "limits.h"
#include "mailbox.h"
#include "supervisor.h"

enum { IDLE_SEGMENT_MS = 30000 };

static Worker *all_workers;
static uint64_t last_worker;
static uint8_t slots[WORKER_SLOTS];
static char *versions[BACKENDS];
static int64_t started_ms;

int64_t module_started_ms(void) {
    if (!started_ms) started_ms = now_ms();
    return started_ms;
}

Worker *worker_first(void) {
    return all_workers;
}

const char *backend_version(Backend backend) {
    return versions[backend];
}

/* ---- Workers ---- */

static Worker *worker_with_id(uint64_t id, uint64_t client) {
    for (Worker *worker = all_workers; worker; worker = worker->next) {
        if (worker->id == id) return worker->client == client ? worker : NULL;
    }
    return NULL;
}

static void idle_remove(Worker *worker) {
    if (!worker->idle) return;
    Worker **link = &worker->lane->idle;
    while (*link != worker) link = &(*link)->idle_next;
    *link = worker->idle_next;
    worker->idle = 0;
}

static void idle_add(Worker *worker) {
    worker->idle_next = worker->lane->idle;
    worker->lane->idle = worker;
    worker->idle = 1;
}

/* The NEXT of a woken worker returns. */
static int on_unit(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    Worker *worker = server.GetBlockedClientPrivateData(ctx);
    worker->waking = 0;
    worker->lane->waking--;
    unit_compose(worker);
    return unit_reply(ctx, &worker->unit);
}

void worker_wake(Worker *worker) {
    RedisModuleBlockedClient *bc = worker->bc;
    idle_remove(worker);
    worker->waking = 1;
    worker->lane->waking++;
    worker->bc = NULL;
    server.UnblockClient(bc, worker);
}

static void loaded_clear(int slot) {
    for (Asset *asset = asset_first(); asset; asset = asset->next) {
        asset->loaded[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    }
}

static void worker_free(Worker *worker) {
    segment_release(&worker->segment);
    mailbox_close(worker);
    unit_free(&worker->unit);
    loaded_clear(worker->slot);
    slots[worker->slot] = 0;
    if (worker->forget) server.Free(worker->forget);
    if (worker->supervisor) server.Free(worker->supervisor);
    server.Free(worker->version);
    server.Free(worker);
}

/* Takes a worker out: its connection is gone, or it hangs. */
static void worker_lost(Worker *worker, int hung) {
    Lane *lane = worker->lane;
    idle_remove(worker);
    Worker **link = &all_workers;
    while (*link != worker) link = &(*link)->next;
    *link = worker->next;
    lane->worker_count--;
    lane->waking -= worker->waking;
    lane->served_ms = now_ms();
    lane->fruitless = worker->units > 1 ? 0 : lane->fruitless + 1;
    if (worker->bc) server.UnblockClient(worker->bc, NULL);
    worker->bc = NULL;
    server.Log(module_context, LOG_NOTICE, "inference worker %llu (%s on %s, pid %lld) %s", (unsigned long long)worker->id,
               backend_name(lane->backend), lane->name, (long long)worker->pid, hung ? "hangs" : "is gone");
    if (hung) supervisor_replace(worker->supervisor, lane, worker->id, worker->pid);
    unit_lost(worker, hung);
    worker_free(worker);
    lane_serve(lane);
}

void workers_forget(const Asset *asset) {
    for (Worker *worker = all_workers; worker; worker = worker->next) {
        if (!(asset->loaded[worker->slot / 64] >> (worker->slot % 64) & 1)) continue;
        if (worker->forget_count == worker->forget_capacity) {
            worker->forget_capacity = worker->forget_capacity ? worker->forget_capacity * 2 : 8;
            worker->forget = server.Realloc(worker->forget, (size_t)worker->forget_capacity * sizeof(uint64_t));
        }
        worker->forget[worker->forget_count++] = asset->version;
    }
}

void workers_client_gone(uint64_t client) {
    Worker *worker = all_workers;
    while (worker) {
        Worker *next = worker->next;
        if (worker->client == client) worker_lost(worker, 0);
        worker = next;
    }
    supervisor_client_gone(client);
}

static void on_disconnect(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc) {
    (void)ctx;
    for (Worker *worker = all_workers; worker; worker = worker->next) {
        if (worker->bc == bc) {
            worker_lost(worker, 0);
            return;
        }
    }
}

/* ---- The tick ---- */

static void drop_hanging(void) {
    int64_t oldest = now_us() - limits.worker_timeout * 1000;
    Worker *worker = all_workers;
    while (worker) {
        Worker *next = worker->next;
        if (worker->unit.active && worker->unit.started_us < oldest) worker_lost(worker, 1);
        worker = next;
    }
}

void workers_tick(void) {
    int64_t now = now_ms();
    later_run();
    requests_tick();
    drop_hanging();
    for (Lane *lane = lane_first(); lane; lane = lane->next) lane_tend(lane, now);
    for (Worker *worker = all_workers; worker; worker = worker->next) {
        if (worker->idle && worker->forget_count) worker_wake(worker);
        if (!worker->unit.active && now - worker->segment.used_ms > IDLE_SEGMENT_MS) segment_hollow(&worker->segment);
    }
}

/* ---- The verbs ---- */

static int free_slot(void) {
    for (int i = 0; i < WORKER_SLOTS; i++) {
        if (!slots[i]) return i;
    }
    return -1;
}

typedef struct JoinOptions {
    long long pid;
    const char *version;
    const char *supervisor;
} JoinOptions;

static int read_join_options(RedisModuleString **argv, int argc, JoinOptions *options) {
    *options = (JoinOptions){.pid = -1, .version = ""};
    for (int i = 0; i + 1 < argc; i += 2) {
        const char *name = server.StringPtrLen(argv[i], NULL);
        const char *value = server.StringPtrLen(argv[i + 1], NULL);
        if (strcasecmp(name, "PID") == 0) {
            if (server.StringToLongLong(argv[i + 1], &options->pid) != API_OK) return 0;
        } else if (strcasecmp(name, "VERSION") == 0) {
            options->version = value;
        } else if (strcasecmp(name, "SUPERVISOR") == 0) {
            options->supervisor = value;
        } else {
            return 0;
        }
    }
    return argc % 2 == 0 && options->pid >= 0;
}

static Worker *worker_enrol(Lane *lane, int slot, uint64_t client, const JoinOptions *options) {
    Worker *worker = server.Calloc(1, sizeof(*worker));
    worker->id = ++last_worker;
    worker->slot = slot;
    worker->lane = lane;
    worker->client = client;
    worker->pid = options->pid;
    worker->version = text_copy(options->version, strlen(options->version));
    if (options->supervisor) worker->supervisor = text_copy(options->supervisor, strlen(options->supervisor));
    segment_init(&worker->segment);
    slots[slot] = 1;
    worker->next = all_workers;
    all_workers = worker;
    lane->worker_count++;
    if (lane->starting > 0) lane->starting--;
    if (versions[lane->backend]) server.Free(versions[lane->backend]);
    versions[lane->backend] = text_copy(options->version, strlen(options->version));
    return worker;
}

/* JOIN version backend device PID pid [VERSION text] [SUPERVISOR name] */
static int join(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    Lane *lane;
    JoinOptions options;
    if (argc < 7) return server.WrongArity(ctx);
    if (!speaks_protocol(argv[2])) return server.ReplyWithError(ctx, "ERR this module speaks version 1 of the worker protocol");
    if (!read_lane(argv + 3, &lane)) return server.ReplyWithError(ctx, "ERR unknown backend or device");
    if (!read_join_options(argv + 5, argc - 5, &options)) return server.ReplyWithError(ctx, "ERR bad option of JOIN");
    int slot = free_slot();
    if (slot < 0) return server.ReplyWithError(ctx, "ERR too many inference workers");
    workers_client_gone(server.GetClientId(ctx));
    Worker *worker = worker_enrol(lane, slot, server.GetClientId(ctx), &options);
    char token[TOKEN_SIZE] = {0};
    int probe = probe_open(token);
    server.ReplyWithArray(ctx, 5);
    server.ReplyWithLongLong(ctx, (long long)worker->id);
    server.ReplyWithLongLong(ctx, process_id());
    server.ReplyWithLongLong(ctx, probe);
    server.ReplyWithStringBuffer(ctx, token, TOKEN_SIZE);
    return server.ReplyWithLongLong(ctx, limits.model_execution_timeout);
}

static Worker *calling_worker(RedisModuleCtx *ctx, RedisModuleString *argument) {
    long long id;
    if (server.StringToLongLong(argument, &id) != API_OK || id < 1) return NULL;
    return worker_with_id((uint64_t)id, server.GetClientId(ctx));
}

/* SHM id token */
static int shared_memory(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    char token[TOKEN_SIZE];
    size_t length;
    if (argc != 4) return server.WrongArity(ctx);
    Worker *worker = calling_worker(ctx, argv[2]);
    if (!worker) return server.ReplyWithError(ctx, "ERR unknown inference worker");
    const char *given = server.StringPtrLen(argv[3], &length);
    if (probe_open(token) < 0 || length != TOKEN_SIZE || memcmp(given, token, TOKEN_SIZE) != 0) {
        return server.ReplyWithError(ctx, "ERR wrong token");
    }
    worker->shared_memory = 1;
    return server.ReplyWithSimpleString(ctx, "OK");
}

/* MAILBOX id */
static int mailbox(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 3) return server.WrongArity(ctx);
    Worker *worker = calling_worker(ctx, argv[2]);
    if (!worker || !worker->shared_memory) return server.ReplyWithError(ctx, "ERR unknown inference worker");
    return server.ReplyWithLongLong(ctx, mailbox_open(worker));
}

/* NEXT id [result frame [element ...]] */
static int next(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 3) return server.WrongArity(ctx);
    Worker *worker = calling_worker(ctx, argv[2]);
    if (!worker || worker->bc) return server.ReplyWithError(ctx, "ERR unknown inference worker");
    worker->units++;
    if ((worker->unit.active || argc > 3) && (argc < 4 || !unit_accept(worker, argv + 3, argc - 3))) {
        worker_lost(worker, 0);
        return server.ReplyWithError(ctx, "ERR malformed result frame");
    }
    worker->bc = server.BlockClient(ctx, on_unit, NULL, NULL, 0); /* without a time-out: CLIENT UNBLOCK cannot reach it */
    server.SetDisconnectCallback(worker->bc, on_disconnect);
    idle_add(worker);
    lane_serve(worker->lane);
    return API_OK;
}

static void reply_texts(RedisModuleCtx *ctx, const Texts *texts) {
    server.ReplyWithArray(ctx, texts->count);
    for (int i = 0; i < texts->count; i++) server.ReplyWithCString(ctx, texts->items[i]);
}

/* MODEL key */
static int model(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc != 3) return server.WrongArity(ctx);
    const char *error;
    Asset *asset = asset_find(ctx, argv[2], ASSET_MODEL, &error);
    if (!asset) return server.ReplyWithNull(ctx);
    server.ReplyWithArray(ctx, 6);
    server.ReplyWithLongLong(ctx, (long long)asset->version);
    server.ReplyWithCString(ctx, backend_name(asset->backend));
    server.ReplyWithCString(ctx, lane_of_asset(asset)->name);
    reply_texts(ctx, &asset->inputs);
    reply_texts(ctx, &asset->outputs);
    return server.ReplyWithStringBuffer(ctx, blob_data(asset->blob), asset->blob->length);
}

static int loaded_count(const Worker *worker) {
    int count = 0;
    for (Asset *asset = asset_first(); asset; asset = asset->next) {
        count += (int)(asset->loaded[worker->slot / 64] >> (worker->slot % 64) & 1);
    }
    return count;
}

static void reply_worker(RedisModuleCtx *ctx, const Worker *worker) {
    const char *state = worker->idle ? "idle" : worker->waking || worker->unit.active ? "busy" : "joined";
    const struct {
        const char *name;
        const char *text;
        long long number;
    } fields[] = {
        {"id", NULL, (long long)worker->id},
        {"backend", backend_name(worker->lane->backend), 0},
        {"device", worker->lane->name, 0},
        {"pid", NULL, (long long)worker->pid},
        {"version", worker->version, 0},
        {"supervisor", worker->supervisor ? worker->supervisor : "", 0},
        {"state", state, 0},
        {"units", NULL, (long long)worker->units},
        {"shm", NULL, worker->shared_memory},
        {"segment", NULL, (long long)worker->segment.size},
        {"loaded", NULL, loaded_count(worker)},
        {"mailbox", NULL, (long long)worker->mailbox_runs},
    };
    int count = (int)(sizeof(fields) / sizeof(fields[0]));
    server.ReplyWithArray(ctx, 2 * count);
    for (int i = 0; i < count; i++) {
        server.ReplyWithCString(ctx, fields[i].name);
        if (fields[i].text) {
            server.ReplyWithCString(ctx, fields[i].text);
        } else {
            server.ReplyWithLongLong(ctx, fields[i].number);
        }
    }
}

static int list(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    if (argc != 2) return server.WrongArity(ctx);
    long count = 0;
    for (Worker *worker = all_workers; worker; worker = worker->next) count++;
    server.ReplyWithArray(ctx, count);
    for (Worker *worker = all_workers; worker; worker = worker->next) reply_worker(ctx, worker);
    return API_OK;
}

int worker_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    static const struct {
        const char *name;
        CommandFunction function;
    } verbs[] = {{"NEXT", next},     {"JOIN", join},   {"SHM", shared_memory}, {"MAILBOX", mailbox}, {"SUPERVISE", supervise_verb},
                 {"FAILED", failed_verb}, {"MODEL", model}, {"LIST", list}, {"FIGURES", figures_verb}};
    if (argc < 2) return server.WrongArity(ctx);
    if (blocking_refused(ctx)) return API_OK;
    const char *verb = server.StringPtrLen(argv[1], NULL);
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcasecmp(verb, verbs[i].name) == 0) return verbs[i].function(ctx, argv, argc);
    }
    return server.ReplyWithError(ctx, "ERR unknown verb of AI._WORKER");
}
