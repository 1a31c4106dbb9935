/* Looking up the server's functions by name; see api.h. */
#include "api.h"

#include <stdio.h>

ServerApi server;
RedisModuleCtx *module_context;

typedef int (*GetApiFunction)(const char *name, void *target);

typedef struct ApiName {
    const char *name;
    size_t offset;
    int optional;
} ApiName;

#define API_NEEDED(type, name, arguments) {"RedisModule_" #name, offsetof(ServerApi, name), 0},
#define API_OPTIONAL(type, name, arguments) {"RedisModule_" #name, offsetof(ServerApi, name), 1},
static const ApiName api_names[] = {API_FUNCTIONS(API_NEEDED) API_OPTIONAL_FUNCTIONS(API_OPTIONAL)};

int api_load(RedisModuleCtx *ctx) {
    GetApiFunction get_api = *(GetApiFunction *)(void *)ctx;
    for (size_t i = 0; i < sizeof(api_names) / sizeof(api_names[0]); i++) {
        void *target = (char *)&server + api_names[i].offset;
        if (get_api(api_names[i].name, target) != API_OK && !api_names[i].optional) {
            fprintf(stderr, "taskensemble_ai: this server has no %s; Redis 6.2 or Valkey 8 is needed\n", api_names[i].name);
            return API_ERR;
        }
    }
    return API_OK;
}
