/* What the examples share: telling errors, and opening a node as options say. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kogge.h"

#define NODE_USAGE                                                                                 \
    "  -d FOLDER   the node's data directory; it is made if it is missing\n"                       \
    "  -g FILE     the genesis of the network to join (kogge network show --json)\n"               \
    "  -p ADDRESS  a peer to connect to, such as /ip4/192.0.2.1/tcp/7878; may be repeated\n"

static inline kogge_str text(const char *it) {
    kogge_str view = {it, strlen(it)};
    return view;
}

/* Ends the program if a call failed, and tells why. */
static inline void check(const char *what, kogge_status status, kogge_error **error) {
    kogge_str name, message, cause;
    size_t depth;
    if (status == KOGGE_STATUS_OK) {
        return;
    }
    name = kogge_status_get_name(status);
    message = kogge_error_get_message(*error);
    fprintf(stderr, "%s: %.*s (%.*s)\n", what, (int)message.len, message.ptr, (int)name.len,
            name.ptr);
    for (depth = 0; (cause = kogge_error_get_cause(*error, depth)).len != 0; depth++) {
        fprintf(stderr, "  because %.*s\n", (int)cause.len, cause.ptr);
    }
    kogge_error_free(*error);
    exit(1);
}

/* A whole file, to be freed by the caller. */
static inline kogge_bytes read_file(const char *path) {
    kogge_bytes bytes = {NULL, 0};
    FILE *file = fopen(path, "rb");
    uint8_t *room = NULL;
    size_t got = 0;
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    do {
        bytes.len += got;
        room = realloc(room, bytes.len + 65536);
        if (room == NULL) {
            perror(path);
            exit(1);
        }
    } while ((got = fread(room + bytes.len, 1, 65536, file)) != 0);
    if (ferror(file)) {
        perror(path);
        exit(1);
    }
    fclose(file);
    bytes.ptr = room;
    return bytes;
}

static inline kogge_config *new_config(void) {
    kogge_config *config = NULL;
    kogge_error *error = NULL;
    check("cannot use this library", kogge_config_new(KOGGE_ABI_VERSION, &config, &error), &error);
    return config;
}

/* Takes an option that concerns the node; false if it is none. */
static inline bool node_option(kogge_config *config, int option, const char *value) {
    kogge_error *error = NULL;
    kogge_status status;
    kogge_bytes genesis;
    switch (option) {
    case 'd':
        status = kogge_config_set_str(config, text("data_dir"), text(value), &error);
        break;
    case 'g':
        genesis = read_file(value);
        status = kogge_config_set_network(config, KOGGE_NETWORK_GENESIS, genesis, &error);
        free((void *)genesis.ptr);
        break;
    case 'p':
        status = kogge_config_add_str(config, text("peers"), text(value), &error);
        break;
    default:
        return false;
    }
    check(value, status, &error);
    return true;
}

/* Opens a node, and waits until it knows what the network knows. */
static inline kogge_node *open_node(kogge_config *config) {
    kogge_node *node = NULL;
    kogge_error *error = NULL;
    check("cannot open the node", kogge_node_open(config, 30000, &node, &error), &error);
    kogge_config_free(config);
    check("cannot reach the network", kogge_node_live(node, 30000, &error), &error);
    return node;
}

static inline void close_node(kogge_node *node) {
    kogge_error *error = NULL;
    check("cannot close the node", kogge_node_close(node, 30000, &error), &error);
}

#endif
