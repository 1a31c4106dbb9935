/* Reading AI.MODELEXECUTE, AI.MODELRUN, AI.SCRIPTEXECUTE and AI.SCRIPTRUN, and running them outside of graphs.
 *
 * Reading (run_parse) looks at nothing but the arguments. Binding (run_bind) finds the model or the script. Inputs are bound by
 * those who know what a name means: a key here, a tensor of the graph in graph.c. */
#include "run.h"

#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "cursor.h"
#include "keys.h"

#define NO_TIMEOUT "ERR No value provided for TIMEOUT"
#define BAD_TIMEOUT "ERR Invalid value for TIMEOUT"

static const struct {
    const char *name;
    AssetKind kind;
} run_commands[] = {
    [RUN_MODELEXECUTE] = {"AI.MODELEXECUTE", ASSET_MODEL},
    [RUN_MODELRUN] = {"AI.MODELRUN", ASSET_MODEL},
    [RUN_SCRIPTEXECUTE] = {"AI.SCRIPTEXECUTE", ASSET_SCRIPT},
    [RUN_SCRIPTRUN] = {"AI.SCRIPTRUN", ASSET_SCRIPT},
};

RunCommand run_command(RedisModuleString *name) {
    for (int command = RUN_MODELEXECUTE; command <= RUN_SCRIPTRUN; command++) {
        if (argument_is(name, run_commands[command].name)) return (RunCommand)command;
    }
    return RUN_NONE;
}

/* An error text with a part of the command in it. */
static const char *error_text(const char *format, const char *part) {
    static char text[256];
    snprintf(text, sizeof(text), format, part);
    return text;
}

static const char *parse_timeout(Cursor *cursor, RunCall *call) {
    if (cursor->left == 0) return NO_TIMEOUT;
    return cursor_integer(cursor, 1, &call->timeout) ? NULL : BAD_TIMEOUT;
}

static RedisModuleString **cursor_skip(Cursor *cursor, long long count) {
    RedisModuleString **first = cursor->argv;
    cursor->argv += count;
    cursor->left -= (int)count;
    return first;
}

/* ---- AI.MODELEXECUTE key INPUTS count key ... OUTPUTS count key ... [TIMEOUT t] ---- */

static const char *parse_modelexecute(Cursor *cursor, RunCall *call) {
    long long count;
    if (!cursor_match(cursor, "INPUTS")) return "ERR INPUTS not specified";
    if (!cursor_integer(cursor, 1, &count) || count > RUN_LIST_MAX) return "ERR Invalid argument for input_count";
    if (count > cursor->left) {
        return "ERR number of input keys to AI.MODELEXECUTE command does not match the number of given arguments";
    }
    call->input_count = (int)count;
    call->inputs = cursor_skip(cursor, count);
    if (!cursor_match(cursor, "OUTPUTS")) return "ERR OUTPUTS not specified";
    if (!cursor_integer(cursor, 1, &count) || count > RUN_LIST_MAX) return "ERR Invalid argument for output_count";
    if (count > cursor->left) {
        return "ERR number of output keys to AI.MODELEXECUTE command does not match the number of given arguments";
    }
    call->output_count = (int)count;
    call->outputs = cursor_skip(cursor, count);
    if (cursor->left == 0) return NULL;
    RedisModuleString *option = cursor_next(cursor);
    if (!argument_is(option, "TIMEOUT")) return error_text("Invalid argument: %.200s", server.StringPtrLen(option, NULL));
    const char *error = parse_timeout(cursor, call);
    if (error || cursor->left == 0) return error;
    return error_text("Invalid argument: %.200s", server.StringPtrLen(cursor->argv[0], NULL));
}

/* ---- AI.MODELRUN key [TIMEOUT t] INPUTS key ... OUTPUTS key ... ---- */

static const char *parse_lists(Cursor *cursor, RunCall *call) {
    if (!cursor_match(cursor, "INPUTS")) return "ERR INPUTS not specified";
    call->inputs = cursor->argv;
    while (cursor->left > 0 && !cursor_sees(cursor, "OUTPUTS")) {
        if (call->kind == ASSET_SCRIPT && call->list_start < 0 && cursor_sees(cursor, "$")) {
            call->list_start = call->list_gap = call->input_count;
            cursor_next(cursor);
            continue;
        }
        cursor_next(cursor);
        call->input_count++;
    }
    if (!cursor_match(cursor, "OUTPUTS")) return "ERR OUTPUTS not specified";
    call->output_count = cursor->left;
    call->outputs = cursor_skip(cursor, cursor->left);
    if (call->input_count > RUN_LIST_MAX || call->output_count > RUN_LIST_MAX) return "ERR too many INPUTS or OUTPUTS";
    return NULL;
}

static const char *parse_modelrun(Cursor *cursor, RunCall *call) {
    if (cursor_match(cursor, "TIMEOUT")) {
        const char *error = parse_timeout(cursor, call);
        if (error) return error;
    }
    return parse_lists(cursor, call);
}

/* ---- AI.SCRIPTRUN key function [TIMEOUT t] INPUTS key ... [$ key ...] OUTPUTS key ... ---- */

static const char *parse_scriptrun(Cursor *cursor, RunCall *call) {
    call->function = cursor_next(cursor);
    if (!call->function) return "ERR function name not specified";
    return parse_modelrun(cursor, call);
}

/* ---- AI.SCRIPTEXECUTE key function [KEYS n key ...] [INPUTS n key ...] [ARGS n arg ...] [OUTPUTS n key ...] [TIMEOUT t] ---- */

typedef struct Scope {
    const char *name;
    const char *noun;
    int *count;
    RedisModuleString ***list;
    int seen;
} Scope;

static const char *parse_scope(Cursor *cursor, Scope *scope) {
    static char text[128];
    long long count;
    if (scope->seen) return error_text("ERR Already Encountered %s scope in AI.SCRIPTEXECUTE command", scope->name);
    scope->seen = 1;
    if (!cursor_integer(cursor, 0, &count) || count > RUN_LIST_MAX) {
        snprintf(text, sizeof(text), "ERR Invalid argument for number of %s to AI.SCRIPTEXECUTE command", scope->noun);
        return text;
    }
    if (count > cursor->left) {
        snprintf(text, sizeof(text), "ERR number of %s to AI.SCRIPTEXECUTE command does not match the number of given arguments",
                 scope->noun);
        return text;
    }
    *scope->count = (int)count;
    *scope->list = cursor_skip(cursor, count);
    return NULL;
}

static const char *parse_scriptexecute(Cursor *cursor, RunCall *call) {
    Scope scopes[] = {{"KEYS", "keys", &call->key_count, &call->keys, 0},
                      {"INPUTS", "inputs", &call->input_count, &call->inputs, 0},
                      {"ARGS", "args", &call->argument_count, &call->arguments, 0},
                      {"OUTPUTS", "outputs", &call->output_count, &call->outputs, 0}};
    call->function = cursor_next(cursor);
    if (!cursor_sees(cursor, "KEYS") && !cursor_sees(cursor, "INPUTS")) {
        return "ERR KEYS or INPUTS scope must be provided first for AI.SCRIPTEXECUTE command";
    }
    while (cursor->left > 0) {
        RedisModuleString *argument = cursor_next(cursor);
        Scope *scope = NULL;
        for (size_t i = 0; i < sizeof(scopes) / sizeof(scopes[0]); i++) {
            if (argument_is(argument, scopes[i].name)) scope = &scopes[i];
        }
        const char *error;
        if (scope) {
            error = parse_scope(cursor, scope);
        } else if (argument_is(argument, "TIMEOUT")) {
            if (call->timeout) return "ERR Already Encountered TIMEOUT scope in AI.SCRIPTEXECUTE command";
            error = parse_timeout(cursor, call);
        } else {
            error = error_text("ERR Invalid AI.SCRIPTEXECUTE command. Unexpected argument: %.150s",
                               server.StringPtrLen(argument, NULL));
        }
        if (error) return error;
    }
    return NULL;
}

/* ---- All of them ---- */

const char *run_parse(RunCommand command, RedisModuleString **argv, int argc, RunCall *call) {
    static const int least[] = {[RUN_MODELEXECUTE] = 8, [RUN_MODELRUN] = 3, [RUN_SCRIPTEXECUTE] = 4, [RUN_SCRIPTRUN] = 4};
    *call = (RunCall){.kind = run_commands[command].kind,
                      .command = run_commands[command].name,
                      .list_start = -1,
                      .list_gap = INT32_MAX};
    if (argc < least[command]) return error_text("ERR wrong number of arguments for '%s' command", call->command);
    call->asset = argv[1];
    Cursor cursor = {argv + 2, argc - 2};
    if (command == RUN_MODELEXECUTE) return parse_modelexecute(&cursor, call);
    if (command == RUN_MODELRUN) return parse_modelrun(&cursor, call);
    if (command == RUN_SCRIPTRUN) return parse_scriptrun(&cursor, call);
    return parse_scriptexecute(&cursor, call);
}

RedisModuleString *run_input(const RunCall *call, int index) {
    return call->inputs[index < call->list_gap ? index : index + 1];
}

static RedisModuleString **retain_all(RedisModuleString **strings, int count) {
    if (count == 0) return NULL;
    RedisModuleString **copy = server.Alloc((size_t)count * sizeof(RedisModuleString *));
    for (int i = 0; i < count; i++) {
        server.RetainString(NULL, strings[i]);
        copy[i] = strings[i];
    }
    return copy;
}

static const char *check_model_counts(const RunCall *call, const Asset *model) {
    if (model->input_count >= 0 && model->input_count != call->input_count) {
        return "Number of keys given as INPUTS here does not match model definition";
    }
    if (model->output_count >= 0 && model->output_count != call->output_count) {
        return "Number of keys given as OUTPUTS here does not match model definition";
    }
    return NULL;
}

static const char *check_function(const RunCall *call, const Asset *script) {
    const char *name = server.StringPtrLen(call->function, NULL);
    if (script->entry_points.count == 0 || texts_contain(&script->entry_points, name)) return NULL;
    return error_text("Function does not exist: %.200s", name);
}

const char *run_bind(RedisModuleCtx *ctx, const RunCall *call, Step *step) {
    const char *error = NULL;
    Asset *asset = asset_find(ctx, call->asset, call->kind, &error);
    if (!asset) return error;
    error = call->kind == ASSET_MODEL ? check_model_counts(call, asset) : check_function(call, asset);
    if (error) return error;
    step->kind = STEP_RUN;
    step_reserve(step, call->input_count, call->output_count);
    step->asset = asset_retain(asset);
    step->list_start = call->list_start;
    step->style = call->kind == ASSET_MODEL ? STYLE_MODEL : asset->entry_points.count ? STYLE_ENTRY_POINT : STYLE_POSITIONAL;
    if (call->function) {
        server.RetainString(NULL, call->function);
        step->function = call->function;
    }
    step->keys = retain_all(call->keys, call->key_count);
    step->key_count = call->key_count;
    step->arguments = retain_all(call->arguments, call->argument_count);
    step->argument_count = call->argument_count;
    return NULL;
}

/* Inputs are keys: takes their tensors. */
static const char *bind_inputs(RedisModuleCtx *ctx, const RunCall *call, Step *step) {
    for (int i = 0; i < call->input_count; i++) {
        const char *error = NULL;
        Tensor *tensor = tensor_find(ctx, run_input(call, i), &error);
        if (!tensor) return error;
        step->inputs[i].tensor = tensor_retain(tensor);
    }
    return NULL;
}

static void bind_outputs(const RunCall *call, Request *request) {
    for (int i = 0; i < call->output_count; i++) {
        server.RetainString(NULL, call->outputs[i]);
        request->writes[i] = (Write){.key = call->outputs[i], .step = 0, .output = i};
    }
}

static int execute(RedisModuleCtx *ctx, RunCommand command, RedisModuleString **argv, int argc, int least) {
    RunCall call;
    if (server.IsKeysPositionRequest(ctx)) return keys_of_run(ctx, command, argv, argc);
    if (argc < least) {
        return server.ReplyWithError(ctx, error_text("ERR wrong number of arguments for '%.100s' command",
                                                     server.StringPtrLen(argv[0], NULL)));
    }
    if (blocking_refused(ctx)) return API_OK;
    const char *error = run_parse(command, argv, argc, &call);
    if (error) return server.ReplyWithError(ctx, error);
    Request *request = request_create(REQUEST_RUN, 1, call.output_count);
    error = run_bind(ctx, &call, &request->steps[0]);
    if (!error) error = bind_inputs(ctx, &call, &request->steps[0]);
    if (error) {
        request_release(request);
        return server.ReplyWithError(ctx, error);
    }
    bind_outputs(&call, request);
    request_submit(ctx, request, call.timeout);
    return API_OK;
}

int modelexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return execute(ctx, RUN_MODELEXECUTE, argv, argc, 8);
}

int modelrun_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return execute(ctx, RUN_MODELRUN, argv, argc, 3);
}

int scriptexecute_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return execute(ctx, RUN_SCRIPTEXECUTE, argv, argc, 4);
}

int scriptrun_command(RedisModuleCtx *ctx, RedisModuleString **argv, int argc) {
    return execute(ctx, RUN_SCRIPTRUN, argv, argc, 4);
}
