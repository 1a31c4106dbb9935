/* Backends and devices, as callers write them and as inference workers are found by them. */
#ifndef TASKENSEMBLE_AI_DEVICE_H
#define TASKENSEMBLE_AI_DEVICE_H

typedef enum Backend { BACKEND_NONE = 0, BACKEND_TF = 1, BACKEND_TFLITE = 2, BACKEND_TORCH = 3, BACKEND_ONNX = 4 } Backend;
enum { BACKENDS = 5 };

/* CPU:n is CPU, and GPU is GPU:0: what runs on the same inference workers is equal. */
typedef struct Device {
    int gpu;
    int index;
} Device;

Backend backend_parse(const char *name);
const char *backend_name(Backend backend);
/* Reads CPU, GPU, CPU:n, GPU:n in any case, n of at most five digits. Returns 0 if it is none of them. */
int device_parse(const char *name, Device *device);
int device_equal(Device a, Device b);
/* Writes the name under which workers join, into a buffer of DEVICE_NAME_SIZE. */
void device_name(Device device, char *name);
enum { DEVICE_NAME_SIZE = 16, DEVICE_TEXT_MAX = 10 };

#endif
