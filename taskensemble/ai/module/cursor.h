/* Reading a command's arguments from left to right. */
#ifndef TASKENSEMBLE_AI_CURSOR_H
#define TASKENSEMBLE_AI_CURSOR_H

#include "api.h"
#include "asset.h"

typedef struct Cursor {
    RedisModuleString **argv;
    int left;
} Cursor;

/* The next argument, or NULL at the end. */
RedisModuleString *cursor_next(Cursor *cursor);
/* Steps over the next argument if it is this keyword. */
int cursor_match(Cursor *cursor, const char *keyword);
int cursor_sees(const Cursor *cursor, const char *keyword);
/* Reads an integer of at least `least`; returns 0 if it is none. */
int cursor_integer(Cursor *cursor, long long least, long long *value);
/* Reads TAG text, if it comes now, into the asset; without it the tag is empty. Returns 0 if the text is missing. */
int cursor_tag(Cursor *cursor, RedisModuleString **tag);

#endif
