/* AI.INFO, and this module's sections of INFO MODULES. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "commands.h"
#include "limits.h"
#include "module.h"
#include "request.h"
#include "sealed.h"
#include "worker.h"

static void reply_field(RedisModuleCtx *ctx, const char *field, const char *text) {
    server.ReplyWithCString(ctx, field);
    server.ReplyWithCString(ctx, text);
}

static void reply_number(RedisModuleCtx *ctx, const char *field, int64_t number) {
    server.ReplyWithCString(ctx, field);
    server.ReplyWithLongLong(ctx, number);
}

static int reply_statistics(RedisModuleCtx *ctx, RedisModuleString *key, const Asset *asset) {
    server.ReplyWithArray(ctx, 18);
    server.ReplyWithCString(ctx, "key");
    server.ReplyWithString(ctx, key);
    reply_field(ctx, "type", asset->kind == ASSET_MODEL ? "MODEL" : "SCRIPT");
    reply_field(ctx, "backend", backend_name(asset->backend));
    reply_field(ctx, "device", asset->device);
    server.ReplyWithCString(ctx, "tag");
    server.ReplyWithStringBuffer(ctx, asset->tag, asset->tag_length);
    reply_number(ctx, "duration", asset->duration_us);
    reply_number(ctx, "samples", asset->kind == ASSET_MODEL ? asset->samples : -1);
    reply_number(ctx, "calls", asset->calls);
    reply_number(ctx, "errors", asset->errors);
    return API_OK;
}

int info_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    const char *error;
    if (argc != 2 && argc != 3) return server.WrongArity(ctx);
    Asset *asset = asset_find(ctx, argv[1], ASSET_MODEL, &error);
    if (!asset) asset = asset_find(ctx, argv[1], ASSET_SCRIPT, &error);
    if (!asset) return server.ReplyWithError(ctx, "ERR cannot find run info for key");
    if (argc == 3 && argument_is(argv[2], "RESETSTAT")) {
        asset_reset_statistics(asset);
        return server.ReplyWithSimpleString(ctx, "OK");
    }
    return reply_statistics(ctx, argv[1], asset);
}

/* ---- INFO MODULES ---- */

static double seconds(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void cpu_field(RedisModuleInfoCtx *ctx, const char *name, double value) {
    char text[32];
    snprintf(text, sizeof(text), "%.6f", value);
    server.InfoAddFieldCString(ctx, name, text);
}

static void cpu_section(RedisModuleInfoCtx *ctx) {
    struct rusage self, children;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    server.InfoAddSection(ctx, "cpu");
    cpu_field(ctx, "self_used_cpu_sys", seconds(self.ru_stime));
    cpu_field(ctx, "self_used_cpu_user", seconds(self.ru_utime));
    cpu_field(ctx, "children_used_cpu_sys", seconds(children.ru_stime));
    cpu_field(ctx, "children_used_cpu_user", seconds(children.ru_utime));
    cpu_field(ctx, "queue_CPU_bthread_n1_used_cpu_total", 0);
}

static void backends_section(RedisModuleInfoCtx *ctx) {
    static const char *const fields[BACKENDS] = {NULL, "TensorFlow_version", "TensorFlowLite_version", "Torch_version",
                                                 "onnxruntime_version"};
    server.InfoAddSection(ctx, "backends_info");
    for (int backend = BACKEND_TF; backend < BACKENDS; backend++) {
        const char *version = backend_version((Backend)backend);
        if (version) server.InfoAddFieldCString(ctx, fields[backend], version);
    }
    if (!backend_version(BACKEND_ONNX)) return;
    long long sessions = 0;
    for (const Lane *lane = lane_first(); lane; lane = lane->next) {
        int most = lane->worker_count > lane->offers ? lane->worker_count : lane->offers;
        if (lane->backend == BACKEND_ONNX) sessions += most;
    }
    server.InfoAddFieldLongLong(ctx, "onnxruntime_maximum_run_sessions_number", sessions);
}

static void workers_section(RedisModuleInfoCtx *ctx) {
    long long workers = 0, busy = 0, waiting = 0, assets = 0;
    for (const Worker *worker = worker_first(); worker; worker = worker->next) {
        workers++;
        busy += worker->unit.active;
    }
    for (const Lane *lane = lane_first(); lane; lane = lane->next) waiting += lane->waiting;
    for (const Asset *asset = asset_first(); asset; asset = asset->next) assets++;
    server.InfoAddSection(ctx, "workers");
    server.InfoAddFieldLongLong(ctx, "inference_workers", workers);
    server.InfoAddFieldLongLong(ctx, "busy_workers", busy);
    server.InfoAddFieldLongLong(ctx, "waiting_jobs", waiting);
    server.InfoAddFieldLongLong(ctx, "blocked_requests", requests_waiting());
    server.InfoAddFieldLongLong(ctx, "stored_models_and_scripts", assets);
    server.InfoAddFieldLongLong(ctx, "shared_memory_bytes", (long long)(segments_total() + sealed_total()));
}

void info_section(RedisModuleInfoCtx *ctx, int for_crash_report) {
    (void)for_crash_report;
    server.InfoAddSection(ctx, "versions");
    server.InfoAddFieldCString(ctx, "RedisAI_version", MODULE_VERSION_TEXT);
    server.InfoAddFieldLongLong(ctx, "low_level_API_Version", 1);
    server.InfoAddFieldLongLong(ctx, "rdb_version", 100);
    server.InfoAddSection(ctx, "git");
    server.InfoAddFieldCString(ctx, "git_sha", "taskensemble");
    server.InfoAddSection(ctx, "load_time_configs");
    server.InfoAddFieldLongLong(ctx, "threads_per_queue", limits.threads_per_queue);
    server.InfoAddFieldLongLong(ctx, "inter_op_parallelism", limits.inter_op_parallelism);
    server.InfoAddFieldLongLong(ctx, "intra_op_parallelism", limits.intra_op_parallelism);
    server.InfoAddFieldLongLong(ctx, "model_execution_timeout", limits.model_execution_timeout);
    server.InfoAddFieldLongLong(ctx, "backend_memory_limit", 0);
    backends_section(ctx);
    cpu_section(ctx);
    workers_section(ctx); /* last: readers of the original find its sections by their number */
}
