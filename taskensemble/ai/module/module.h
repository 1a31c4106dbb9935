/* Name and version of the module. The version is that of the protocol it speaks, RedisAI's last one: clients look at it. */
#ifndef TASKENSEMBLE_AI_MODULE_H
#define TASKENSEMBLE_AI_MODULE_H

#define MODULE_NAME "ai"
#define MODULE_VERSION 10207
#define MODULE_VERSION_TEXT "1.2.7"

#endif
