/* What the C tests have in common. A program gets an empty folder as its argument, and the
 * description of a running network in the environment variable KOGGE_SCENE; it prints nothing and
 * ends with 0, or tells the first check that failed and ends with 1. */
#ifndef KOGGE_TEST_H
#define KOGGE_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "kogge.h"

/* Longest wait for something that must come. Unit: milliseconds. */
#define LIMIT UINT64_C(120000)

/* Taken by the macros below when a call fails; several threads must not share it. */
static kogge_error *problem;

static const char *test_folder;
static char *scene_json;
static int threads_before;

static inline void fail(const char *file, int line, const char *what) {
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

/* That something holds. */
#define CHECK(condition) ((condition) ? (void)0 : fail(__FILE__, __LINE__, #condition))

static inline void check_status(const char *file, int line, const char *call, kogge_status actual,
                                kogge_status wanted) {
    kogge_str name = kogge_status_get_name(actual);
    kogge_str message = kogge_error_get_message(problem);
    if (actual != wanted) {
        fprintf(stderr, "%s:%d: %s is %.*s (%.*s), not %d\n", file, line, call, (int)name.len,
                name.ptr, (int)message.len, message.ptr, (int)wanted);
        exit(1);
    }
    if (problem != NULL) {
        if (actual == KOGGE_STATUS_OK || kogge_error_get_code(problem) != actual ||
            message.len == 0) {
            fail(file, line, "the error does not fit its status");
        }
        kogge_error_free(problem);
        problem = NULL;
    }
}

/* That a call, which leaves its error in `problem` or has none, ends with a status. */
#define IS(status, call) check_status(__FILE__, __LINE__, #call, (call), (status))
#define OK(call) IS(KOGGE_STATUS_OK, call)

static inline kogge_str str(const char *text) {
    kogge_str view = {text, strlen(text)};
    return view;
}

static inline kogge_str none(void) {
    kogge_str view = {NULL, 0};
    return view;
}

static inline void nap(void) {
    struct timespec pause = {0, 2000000};
    nanosleep(&pause, NULL);
}

static inline uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Waits until something holds that another thread brings about. */
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        uint64_t end_ = now_ms() + LIMIT;                                                          \
        while (!(condition)) {                                                                     \
            CHECK(now_ms() < end_ && #condition);                                                  \
            nap();                                                                                 \
        }                                                                                          \
    } while (0)

/* A path in the test's folder; several of them may be in use at once. */
static inline const char *in_folder(const char *name) {
    static char paths[8][4096];
    static int next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder, name);
    return path;
}

/* A whole file, to be freed. */
static inline char *slurp(const char *path, size_t *len) {
    FILE *file = fopen(path, "rb");
    char *bytes;
    long size;
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    CHECK(fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0);
    rewind(file);
    bytes = malloc((size_t)size + 1);
    CHECK(bytes != NULL && fread(bytes, 1, (size_t)size, file) == (size_t)size);
    bytes[size] = 0;
    *len = (size_t)size;
    fclose(file);
    return bytes;
}

static inline void spill(const char *path, const void *bytes, size_t len) {
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fwrite(bytes, 1, len, file) == len && fclose(file) == 0);
}

static inline kogge_bytes bytes_of(const char *path, char **kept) {
    kogge_bytes view;
    *kept = slurp(path, &view.len);
    view.ptr = (const uint8_t *)*kept;
    return view;
}

/* The text or number after a key, from `json` on: enough for documents whose shape is known. */
static inline void field(const char *json, const char *key, char *value, size_t size) {
    char quoted[64];
    size_t len = 0;
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    json = strstr(json, quoted);
    CHECK(json != NULL);
    json += strlen(quoted);
    while (*json == ' ' || *json == '"') {
        json++;
    }
    while (json[len] != '"' && json[len] != ',' && json[len] != '\n' && json[len] != '}') {
        len++;
    }
    CHECK(len < size);
    memcpy(value, json, len);
    value[len] = 0;
}

typedef struct {
    char what[256], purl[256], file[256], path[1024], waybill[1024], blake3[128], sha256[128];
    uint64_t size, index;
} artifact;

/* An artifact of the scene: tiny, small, medium, large. */
static inline artifact scene_artifact(const char *name) {
    artifact it;
    char key[64], text[64];
    const char *at;
    snprintf(key, sizeof key, "\"name\": \"%s\"", name);
    at = strstr(scene_json, key);
    CHECK(at != NULL);
    while (*at != '{') {
        at--;
    }
    field(at, "what", it.what, sizeof it.what);
    field(at, "purl", it.purl, sizeof it.purl);
    field(at, "file", it.file, sizeof it.file);
    field(at, "path", it.path, sizeof it.path);
    field(at, "waybill", it.waybill, sizeof it.waybill);
    memcpy(it.blake3, "blake3:", 8);
    field(at, "blake3", it.blake3 + 7, sizeof it.blake3 - 7);
    memcpy(it.sha256, "sha256:", 8);
    field(at, "sha256", it.sha256 + 7, sizeof it.sha256 - 7);
    field(at, "size", text, sizeof text);
    it.size = strtoull(text, NULL, 10);
    field(at, "index", text, sizeof text);
    it.index = strtoull(text, NULL, 10);
    return it;
}

static inline kogge_name name_of(const artifact *it) {
    kogge_name name = {sizeof name, str(it->what), str(it->file)};
    return name;
}

static inline kogge_fetch_request request_for(const artifact *it) {
    kogge_fetch_request request;
    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.name = name_of(it);
    return request;
}

static inline kogge_sink sink_of(int32_t kind) {
    kogge_sink sink;
    memset(&sink, 0, sizeof sink);
    sink.struct_size = sizeof sink;
    sink.kind = kind;
    return sink;
}

/* Threads of this process. */
static inline int threads(void) {
    DIR *folder = opendir("/proc/self/task");
    int count = -2;
    CHECK(folder != NULL);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

static inline void begin(int argc, char **argv) {
    const char *path = getenv("KOGGE_SCENE");
    size_t len;
    CHECK(argc == 2);
    test_folder = argv[1];
    if (path != NULL) {
        scene_json = slurp(path, &len);
    }
    CHECK(kogge_debug_live_handles() == 0);
    threads_before = threads();
}

/* Nothing is left: no handle, and no thread but those that async-io and futures-timer keep for
 * ever. */
static inline int finish(void) {
    CHECK(problem == NULL);
    CHECK(kogge_debug_live_handles() == 0);
    UNTIL(threads() <= threads_before + 2);
    free(scene_json);
    return 0;
}

/* A configuration for the scene's network, with its data in a folder of the test. */
static inline kogge_config *scene_config(const char *name) {
    kogge_config *config = NULL;
    char path[1024], *genesis;
    const char *at, *end;
    OK(kogge_config_new(KOGGE_ABI_VERSION, &config, &problem));
    OK(kogge_config_set_str(config, str("data_dir"), str(in_folder(name)), &problem));
    field(scene_json, "genesis", path, sizeof path);
    OK(kogge_config_set_network(config, KOGGE_NETWORK_GENESIS, bytes_of(path, &genesis),
                                &problem));
    free(genesis);
    at = strstr(scene_json, "\"peers\": [");
    CHECK(at != NULL);
    end = strchr(at, ']');
    at = strchr(at, '[');
    while ((at = strchr(at + 1, '"')) != NULL && at < end) {
        kogge_str peer = {at + 1, (size_t)(strchr(at + 1, '"') - at - 1)};
        OK(kogge_config_add_str(config, str("peers"), peer, &problem));
        at = peer.ptr + peer.len;
    }
    return config;
}

/* A node of the scene's network that knows the log. */
static inline kogge_node *open_live(kogge_config *config) {
    kogge_node *node = NULL;
    OK(kogge_node_open(config, LIMIT, &node, &problem));
    kogge_config_free(config);
    OK(kogge_node_live(node, LIMIT, &problem));
    return node;
}

static inline kogge_node *open_scene(const char *name) { return open_live(scene_config(name)); }

/* A configuration for a network of one node, without peers. */
static inline kogge_config *solo_config(const char *name) {
    kogge_config *config = NULL;
    OK(kogge_config_new(KOGGE_ABI_VERSION, &config, &problem));
    OK(kogge_config_set_str(config, str("data_dir"), str(in_folder(name)), &problem));
    return config;
}

static inline void close_node(kogge_node *node) { OK(kogge_node_close(node, LIMIT, &problem)); }

static inline bool is_text(kogge_str view, const char *text) {
    return view.len == strlen(text) && memcmp(view.ptr, text, view.len) == 0;
}

/* A buffer as text, to be freed; frees the buffer. */
static inline char *take_text(kogge_buffer *buffer) {
    kogge_bytes bytes = kogge_buffer_get_bytes(buffer);
    char *text = malloc(bytes.len + 1);
    CHECK(text != NULL);
    if (bytes.len != 0) {
        memcpy(text, bytes.ptr, bytes.len);
    }
    text[bytes.len] = 0;
    kogge_buffer_free(buffer);
    return text;
}

/* What a completion with a callback told. */
typedef struct {
    atomic_int ends, drops;
    _Atomic(kogge_op *) op;
    atomic_int status;
} told;

static inline void told_end(void *user_data, kogge_op *op, kogge_status status) {
    told *it = user_data;
    it->op = op;
    it->status = status;
    it->ends++;
}

static inline void told_drop(void *user_data) {
    told *it = user_data;
    it->drops++;
}

#endif
