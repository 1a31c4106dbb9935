/* Work that only the main thread may do, left to it by other threads. */
#ifndef TASKENSEMBLE_AI_LATER_H
#define TASKENSEMBLE_AI_LATER_H

/* Remembers the calling thread as the main one. */
void later_begin(void);
/* Calls the function at once on the main thread, otherwise when later_run is called next. */
void later(void (*function)(void *), void *value);
/* Does what was left, on the main thread. */
void later_run(void);

#endif
