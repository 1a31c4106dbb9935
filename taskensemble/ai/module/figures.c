/* Figures of models and scripts; see figures.h.
 *
 * Counting is a few additions for each request. Quantiles are worked out when somebody asks, from the classes; those are told as
 * well, so that a reader who asks twice can work out the quantiles of the time between. */
#include "figures.h"

#include <string.h>

#include "asset.h"
#include "commands.h"

/* The class of a latency: itself below eight, then the power of two and the next three bits. */
static int latency_class(int64_t us) {
    if (us < LATENCY_EXACT) return us < 0 ? 0 : (int)us;
    int power = 63 - __builtin_clzll((unsigned long long)us);
    int index = LATENCY_EXACT + (power - 3) * 8 + (int)((us >> (power - 3)) & 7);
    return index < LATENCY_CLASSES ? index : LATENCY_CLASSES - 1;
}

/* The largest latency of a class, in us. */
static int64_t class_end(int index) {
    if (index < LATENCY_EXACT) return index;
    int power = (index - LATENCY_EXACT) / 8;
    return ((INT64_C(8) + (index - LATENCY_EXACT) % 8 + 1) << power) - 1;
}

void figures_batch(Figures *figures, int requests, int64_t samples) {
    int class = requests < 2 ? 0 : 32 - __builtin_clz((unsigned)requests - 1);
    figures->batches++;
    figures->batch_sizes[class < BATCH_CLASSES ? class : BATCH_CLASSES - 1]++;
    if (samples > figures->largest_batch) figures->largest_batch = samples;
}

void figures_latency(Figures *figures, int64_t us) {
    figures->latencies[latency_class(us)]++;
}

static int64_t quantile(const Figures *figures, double share) {
    int64_t total = 0, seen = 0;
    for (int i = 0; i < LATENCY_CLASSES; i++) total += figures->latencies[i];
    for (int i = 0; i < LATENCY_CLASSES; i++) {
        seen += figures->latencies[i];
        if (total > 0 && (double)seen >= share * (double)total) return class_end(i);
    }
    return 0;
}

/* ---- AI._WORKER FIGURES ---- */

static void reply_number(RedisModuleCtx *ctx, const char *field, int64_t number) {
    server.ReplyWithCString(ctx, field);
    server.ReplyWithLongLong(ctx, number);
}

static void reply_text(RedisModuleCtx *ctx, const char *field, const char *text) {
    server.ReplyWithCString(ctx, field);
    server.ReplyWithCString(ctx, text);
}

/* A flat array of the classes that hold something: their upper end, their count. */
static void reply_classes(RedisModuleCtx *ctx, const char *field, const uint32_t *counts, int classes, int64_t (*end)(int)) {
    int used = 0;
    for (int i = 0; i < classes; i++) used += counts[i] > 0;
    server.ReplyWithCString(ctx, field);
    server.ReplyWithArray(ctx, 2 * used);
    for (int i = 0; i < classes; i++) {
        if (!counts[i]) continue;
        server.ReplyWithLongLong(ctx, end(i));
        server.ReplyWithLongLong(ctx, counts[i]);
    }
}

static int64_t batch_class_end(int index) {
    return INT64_C(1) << index;
}

static void reply_figures(RedisModuleCtx *ctx, RedisModuleString *key, const Asset *asset) {
    const Figures *figures = &asset->figures;
    server.ReplyWithArray(ctx, 2 * 15);
    server.ReplyWithCString(ctx, "key");
    server.ReplyWithString(ctx, key);
    reply_text(ctx, "type", asset->kind == ASSET_MODEL ? "MODEL" : "SCRIPT");
    reply_text(ctx, "backend", backend_name(asset->backend));
    reply_text(ctx, "device", asset->device);
    reply_number(ctx, "duration", asset->duration_us);
    reply_number(ctx, "samples", asset->kind == ASSET_MODEL ? asset->samples : -1);
    reply_number(ctx, "calls", asset->calls);
    reply_number(ctx, "errors", asset->errors);
    reply_number(ctx, "waiting", asset->waiting);
    reply_number(ctx, "batches", figures->batches);
    reply_number(ctx, "largest_batch", figures->largest_batch);
    reply_number(ctx, "p50", quantile(figures, 0.5));
    reply_number(ctx, "p99", quantile(figures, 0.99));
    reply_classes(ctx, "batch_sizes", figures->batch_sizes, BATCH_CLASSES, batch_class_end);
    reply_classes(ctx, "latencies", figures->latencies, LATENCY_CLASSES, class_end);
}

int figures_verb(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    if (argc < 3) return server.WrongArity(ctx);
    server.ReplyWithArray(ctx, argc - 2);
    for (int i = 2; i < argc; i++) {
        const char *error;
        const Asset *asset = asset_find(ctx, argv[i], ASSET_MODEL, &error);
        if (!asset) asset = asset_find(ctx, argv[i], ASSET_SCRIPT, &error);
        if (asset) {
            reply_figures(ctx, argv[i], asset);
        } else {
            server.ReplyWithNull(ctx);
        }
    }
    return API_OK;
}
