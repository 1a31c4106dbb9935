/* Supervisors, and when they are asked for a worker.
 *
 * A supervisor is a client whose SUPERVISE is blocked until there is an order for it. The module orders a worker when a job waits in a
 * lane that has none, when all were busy for a while and more are offered, and when one hangs. An order is one attempt: it ends
 * with a JOIN, with FAILED, or when WORKER_START_TIMEOUT has passed.
 *
 * A pair whose workers die before they finish anything is given up after three of them, so that a broken installation does not
 * start processes for ever. A lane without worker or offer fails what waits, but not before WORKER_GRACE has passed since it was
 * last served, or since the server started: after a restart, clients come back before supervisors do. */
#include "supervisor.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "limits.h"
#include "worker.h"

enum { PROTOCOL_VERSION = 1, MAX_FRUITLESS = 3, BACKLOG_MS = 200, MAX_OFFER = 64 };

#define NO_BACKEND "ERR Could not load backend"

typedef struct Offer {
    Lane *lane;
    int count;
} Offer;

typedef struct Order {
    struct Order *next;
    const char *verb;
    Lane *lane;
    uint64_t worker; /* REPLACE */
    int64_t pid;
} Order;

typedef struct Supervisor {
    char *name;
    uint64_t client;
    RedisModuleBlockedClient *bc;
    Offer *offers;
    int offer_count;
    Order *orders; /* oldest first */
    struct Supervisor *next;
} Supervisor;

static Supervisor *all_supervisors;

static Supervisor *supervisor_named(const char *name) {
    for (Supervisor *s = all_supervisors; s; s = s->next) {
        if (strcmp(s->name, name) == 0) return s;
    }
    return NULL;
}

static Supervisor *supervisor_offering(const Lane *lane) {
    for (Supervisor *s = all_supervisors; s; s = s->next) {
        for (int i = 0; i < s->offer_count; i++) {
            if (s->offers[i].lane == lane) return s;
        }
    }
    return NULL;
}

/* ---- Orders ---- */

static int reply_order(RedisModuleCtx *ctx, Supervisor *supervisor) {
    Order *order = supervisor->orders;
    supervisor->orders = order->next;
    int replace = strcmp(order->verb, "REPLACE") == 0;
    char number[24];
    server.ReplyWithArray(ctx, replace ? 5 : 3);
    server.ReplyWithCString(ctx, order->verb);
    server.ReplyWithCString(ctx, backend_name(order->lane->backend));
    server.ReplyWithCString(ctx, order->lane->name);
    if (replace) {
        snprintf(number, sizeof(number), "%llu", (unsigned long long)order->worker);
        server.ReplyWithCString(ctx, number);
        snprintf(number, sizeof(number), "%lld", (long long)order->pid);
        server.ReplyWithCString(ctx, number);
    }
    server.Free(order);
    return API_OK;
}

static int on_order(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    (void)argv;
    (void)argc;
    Supervisor *supervisor = supervisor_named(server.GetBlockedClientPrivateData(ctx));
    if (!supervisor || !supervisor->orders) return server.ReplyWithError(ctx, "ERR this supervisor's name was taken over");
    return reply_order(ctx, supervisor);
}

static void free_name(RedisModuleCtx *ctx, void *name) {
    (void)ctx;
    if (name) server.Free(name);
}

/* Lets the blocked SUPERVISE return. */
static void supervisor_wake(Supervisor *supervisor) {
    if (!supervisor->bc) return;
    server.UnblockClient(supervisor->bc, text_copy(supervisor->name, strlen(supervisor->name)));
    supervisor->bc = NULL;
}

static void supervisor_order(Supervisor *supervisor, Order order) {
    Order *copy = server.Alloc(sizeof(*copy));
    *copy = order;
    copy->next = NULL;
    Order **end = &supervisor->orders;
    while (*end) end = &(*end)->next;
    *end = copy;
    supervisor_wake(supervisor);
}

static void offers_withdraw(Supervisor *supervisor) {
    for (int i = 0; i < supervisor->offer_count; i++) {
        supervisor->offers[i].lane->offers -= supervisor->offers[i].count;
        supervisor->offers[i].lane->served_ms = now_ms();
    }
    if (supervisor->offers) server.Free(supervisor->offers);
    supervisor->offers = NULL;
    supervisor->offer_count = 0;
}

static void supervisor_remove(Supervisor *supervisor) {
    Supervisor **link = &all_supervisors;
    while (*link != supervisor) link = &(*link)->next;
    *link = supervisor->next;
    for (int i = 0; i < supervisor->offer_count; i++) supervisor->offers[i].lane->starting = 0;
    offers_withdraw(supervisor);
    while (supervisor->orders) {
        Order *next = supervisor->orders->next;
        server.Free(supervisor->orders);
        supervisor->orders = next;
    }
    supervisor_wake(supervisor);
    server.Free(supervisor->name);
    server.Free(supervisor);
}

int supervisor_replace(const char *name, Lane *lane, uint64_t worker, int64_t pid) {
    Supervisor *supervisor = name ? supervisor_named(name) : NULL;
    if (!supervisor) return 0;
    lane->starting++;
    lane->start_by_ms = now_ms() + limits.worker_start_timeout;
    supervisor_order(supervisor, (Order){.verb = "REPLACE", .lane = lane, .worker = worker, .pid = pid});
    return 1;
}

void supervisor_client_gone(uint64_t client) {
    for (Supervisor *s = all_supervisors; s; s = s->next) {
        if (s->client == client) {
            supervisor_remove(s);
            return;
        }
    }
}

static void on_disconnect(RedisModuleCtx *ctx, RedisModuleBlockedClient *bc) {
    (void)ctx;
    for (Supervisor *s = all_supervisors; s; s = s->next) {
        if (s->bc == bc) {
            supervisor_remove(s);
            return;
        }
    }
}

/* ---- Lanes and their need of workers ---- */

int lane_can_serve(const Lane *lane) {
    return lane->worker_count > 0 || lane->offers > 0;
}

const char *lane_refusal(const Lane *lane) {
    if (lane->backend == BACKEND_TORCH && lane->device.gpu) return "GPU requested but Torch couldn't find CUDA";
    return NO_BACKEND;
}

static int order_start(Lane *lane) {
    Supervisor *supervisor = supervisor_offering(lane);
    if (!supervisor) return 0;
    lane->starting++;
    lane->start_by_ms = now_ms() + limits.worker_start_timeout;
    supervisor_order(supervisor, (Order){.verb = "START", .lane = lane});
    return 1;
}

void lane_want_worker(Lane *lane) {
    if (lane->worker_count > 0 || lane->starting > 0) return;
    if (lane->fruitless >= MAX_FRUITLESS) {
        lane->fruitless = 0;
        server.Log(module_context, LOG_WARNING, "%d inference workers for %s on %s ended without doing anything: giving up",
                   MAX_FRUITLESS, backend_name(lane->backend), lane->name);
        lane_fail(lane, NO_BACKEND);
        return;
    }
    if (order_start(lane)) return;
    if (now_ms() - lane->served_ms >= limits.worker_grace) lane_fail(lane, lane_refusal(lane));
}

static void start_failed(Lane *lane, const char *text) {
    server.Log(module_context, LOG_WARNING, "no inference worker for %s on %s: %s", backend_name(lane->backend), lane->name, text);
    if (lane->starting > 0) lane->starting--;
    if (lane->worker_count == 0 && lane->starting == 0) lane_fail(lane, NO_BACKEND);
}

void lane_tend(Lane *lane, int64_t now) {
    if (lane->starting > 0 && now > lane->start_by_ms) {
        lane->starting = 1;
        start_failed(lane, "it did not join in time");
    }
    if (!lane->waiting) return;
    if (lane->worker_count == 0) {
        lane_want_worker(lane);
    } else if (!lane->idle && lane->backlog_ms && now - lane->backlog_ms > BACKLOG_MS && lane->starting == 0 &&
               lane->worker_count < lane->offers) {
        lane->backlog_ms = now;
        order_start(lane);
    }
}

/* ---- The verbs ---- */

int speaks_protocol(RedisModuleString *argument) {
    long long version;
    return server.StringToLongLong(argument, &version) == API_OK && version == PROTOCOL_VERSION;
}

int read_lane(RedisModuleString **argv, Lane **lane) {
    Device device;
    Backend backend = backend_parse(server.StringPtrLen(argv[0], NULL));
    if (backend == BACKEND_NONE || !device_parse(server.StringPtrLen(argv[1], NULL), &device)) return 0;
    *lane = lane_of(backend, device);
    return 1;
}

/* Reads OFFER backend device count ...; returns the number, or -1. `offers` has room for argc / 4. */
static int read_offers(RedisModuleString **argv, int argc, Offer *offers) {
    int count = 0;
    for (int i = 0; i < argc; i += 4) {
        long long workers;
        if (argc - i < 4 || strcasecmp(server.StringPtrLen(argv[i], NULL), "OFFER") != 0) return -1;
        if (!read_lane(argv + i + 1, &offers[count].lane)) return -1;
        if (server.StringToLongLong(argv[i + 3], &workers) != API_OK || workers < 1 || workers > MAX_OFFER) return -1;
        offers[count++].count = (int)workers;
    }
    return count;
}

static void offers_take(Supervisor *supervisor, Offer *offers, int count) {
    offers_withdraw(supervisor);
    supervisor->offers = offers;
    supervisor->offer_count = count;
    for (int i = 0; i < count; i++) offers[i].lane->offers += offers[i].count;
}

static Supervisor *supervisor_enrol(const char *name, uint64_t client) {
    Supervisor *supervisor = supervisor_named(name);
    if (supervisor && supervisor->client == client) return supervisor;
    if (supervisor) supervisor_remove(supervisor);
    supervisor = server.Calloc(1, sizeof(*supervisor));
    supervisor->name = text_copy(name, strlen(name));
    supervisor->client = client;
    supervisor->next = all_supervisors;
    all_supervisors = supervisor;
    return supervisor;
}

/* SUPERVISE version name [OFFER backend device count] ... */
int supervise_verb(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 4) return server.WrongArity(ctx);
    if (!speaks_protocol(argv[2])) return server.ReplyWithError(ctx, "ERR this module speaks version 1 of the worker protocol");
    Offer *offers = server.Calloc((size_t)argc, sizeof(Offer));
    int count = read_offers(argv + 4, argc - 4, offers);
    if (count < 0) {
        server.Free(offers);
        return server.ReplyWithError(ctx, "ERR an offer is OFFER <backend> <device> <count from 1 to 64>");
    }
    Supervisor *supervisor = supervisor_enrol(server.StringPtrLen(argv[3], NULL), server.GetClientId(ctx));
    offers_take(supervisor, offers, count);
    for (int i = 0; i < count; i++) {
        if (offers[i].lane->waiting) lane_serve(offers[i].lane);
    }
    if (supervisor->orders) return reply_order(ctx, supervisor);
    supervisor->bc = server.BlockClient(ctx, on_order, NULL, free_name, 0);
    server.SetDisconnectCallback(supervisor->bc, on_disconnect);
    return API_OK;
}

/* FAILED name backend device text */
int failed_verb(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    Lane *lane;
    if (argc != 6) return server.WrongArity(ctx);
    if (!read_lane(argv + 3, &lane)) return server.ReplyWithError(ctx, "ERR unknown backend or device");
    start_failed(lane, server.StringPtrLen(argv[5], NULL));
    return server.ReplyWithSimpleString(ctx, "OK");
}
