/* Names of backends and devices; see device.h. */
#include "device.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const backend_names[BACKENDS] = {"", "TF", "TFLITE", "TORCH", "ONNX"};

Backend backend_parse(const char *name) {
    for (int backend = BACKEND_TF; backend < BACKENDS; backend++) {
        if (strcasecmp(name, backend_names[backend]) == 0) return (Backend)backend;
    }
    return BACKEND_NONE;
}

const char *backend_name(Backend backend) {
    return backend_names[backend];
}

int device_parse(const char *name, Device *device) {
    size_t length = strlen(name);
    if (length < 3 || length > DEVICE_TEXT_MAX) return 0;
    int gpu = strncasecmp(name, "GPU", 3) == 0;
    if (!gpu && strncasecmp(name, "CPU", 3) != 0) return 0;
    *device = (Device){.gpu = gpu, .index = 0};
    if (length == 3) return 1;
    if (name[3] != ':' || length < 5 || length > 9) return 0;
    for (const char *at = name + 4; *at; at++) {
        if (!isdigit((unsigned char)*at)) return 0;
    }
    if (gpu) device->index = atoi(name + 4);
    return 1;
}

int device_equal(Device a, Device b) {
    return a.gpu == b.gpu && a.index == b.index;
}

void device_name(Device device, char *name) {
    if (device.gpu) {
        snprintf(name, DEVICE_NAME_SIZE, "GPU:%d", device.index);
    } else {
        snprintf(name, DEVICE_NAME_SIZE, "CPU");
    }
}
