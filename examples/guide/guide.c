/* Fetches one artifact with a node inside this program, and prints its size, SHA-256 and log index.
 *
 * Usage: guide WHAT DATA_DIR GENESIS PEER */

#include <kogge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kogge_str text(const char *it) {
    kogge_str view = {it, strlen(it)};
    return view;
}

/* Why the last call that failed did. */
static kogge_error *error;

/* Ends the program if a call failed. */
static void check(kogge_status status) {
    if (status != KOGGE_STATUS_OK) {
        kogge_str message = kogge_error_get_message(error);
        fprintf(stderr, "guide: %.*s\n", (int)message.len, message.ptr);
        exit(1);
    }
}

int main(int count, char **arguments) {
    if (count != 5) {
        fprintf(stderr, "usage: guide WHAT DATA_DIR GENESIS PEER\n");
        return 2;
    }
    static uint8_t genesis[1 << 20];
    FILE *file = fopen(arguments[3], "rb");
    if (file == NULL) {
        perror(arguments[3]);
        return 1;
    }
    kogge_bytes document = {genesis, fread(genesis, 1, sizeof genesis, file)};
    fclose(file);

    kogge_config *config = NULL;
    check(kogge_config_new(KOGGE_ABI_VERSION, &config, &error));
    check(kogge_config_set_str(config, text("data_dir"), text(arguments[2]), &error));
    check(kogge_config_add_str(config, text("peers"), text(arguments[4]), &error));
    check(kogge_config_set_network(config, KOGGE_NETWORK_GENESIS, document, &error));
    kogge_node *node = NULL;
    check(kogge_node_open(config, 30000, &node, &error));
    kogge_config_free(config);
    check(kogge_node_live(node, 30000, &error));

    kogge_fetch_request request;
    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.name.struct_size = sizeof request.name;
    request.name.what = text(arguments[1]);
    kogge_sink sink;
    memset(&sink, 0, sizeof sink);
    sink.struct_size = sizeof sink;
    sink.kind = KOGGE_SINK_NONE; /* Into the node's store. */
    kogge_fetch_result result;
    check(kogge_fetch(node, &request, &sink, 60000, &result, NULL, NULL, &error));

    printf("%llu ", (unsigned long long)result.size);
    for (size_t at = 0; at < sizeof result.sha256; at++) {
        printf("%02x", result.sha256[at]);
    }
    printf(" %llu\n", (unsigned long long)result.log_index);

    check(kogge_node_close(node, 30000, &error));
    return 0;
}
