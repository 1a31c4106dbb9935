/* Arguments from left to right; see cursor.h. */
#include "cursor.h"

#include "commands.h"

RedisModuleString *cursor_next(Cursor *cursor) {
    if (cursor->left == 0) return NULL;
    cursor->left--;
    return *cursor->argv++;
}

int cursor_sees(const Cursor *cursor, const char *keyword) {
    return cursor->left > 0 && argument_is(cursor->argv[0], keyword);
}

int cursor_match(Cursor *cursor, const char *keyword) {
    if (!cursor_sees(cursor, keyword)) return 0;
    cursor_next(cursor);
    return 1;
}

int cursor_integer(Cursor *cursor, long long least, long long *value) {
    RedisModuleString *argument = cursor_next(cursor);
    return argument && server.StringToLongLong(argument, value) == API_OK && *value >= least;
}

int cursor_tag(Cursor *cursor, RedisModuleString **tag) {
    *tag = NULL;
    if (!cursor_match(cursor, "TAG")) return 1;
    *tag = cursor_next(cursor);
    return *tag != NULL;
}
