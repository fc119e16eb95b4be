/* What a node fetches, verifies and finds in the log, as one line of JSON: see tests/ffi/guide.rs.
 *
 * Usage: vectors DATA_DIR GENESIS PEER POLICY (NAME DIGEST PATH WAYBILL)... */

#include <kogge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static kogge_error *error;

static kogge_str text(const char *it) {
    kogge_str view = {it, strlen(it)};
    return view;
}

static void check(kogge_status status) {
    if (status != KOGGE_STATUS_OK) {
        kogge_str message = kogge_error_get_message(error);
        fprintf(stderr, "vectors: %.*s\n", (int)message.len, message.ptr);
        exit(1);
    }
}

static kogge_bytes file(const char *path) {
    FILE *stream = fopen(path, "rb");
    uint8_t *bytes = malloc(1 << 20);
    if (stream == NULL || bytes == NULL) {
        perror(path);
        exit(1);
    }
    kogge_bytes view = {bytes, fread(bytes, 1, 1 << 20, stream)};
    fclose(stream);
    return view;
}

static void print_hex(const uint8_t *digest) {
    for (int at = 0; at < 32; at++) {
        printf("%02x", digest[at]);
    }
}

static void print_artifact(kogge_node *node, char **words, kogge_bytes policy, const char *divider) {
    kogge_fetch_request request;
    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.name.struct_size = sizeof request.name;
    request.name.what = text(words[1]);
    kogge_sink sink;
    memset(&sink, 0, sizeof sink);
    sink.struct_size = sizeof sink;
    sink.kind = KOGGE_SINK_NONE;
    kogge_fetch_result result;
    check(kogge_fetch(node, &request, &sink, 60000, &result, NULL, NULL, &error));

    kogge_bytes waybill = file(words[3]);
    kogge_rows *rows = NULL;
    check(kogge_verify_file(text(words[2]), waybill, KOGGE_TRUST_POLICY, policy, &rows, &error));
    kogge_entry entry;
    check(kogge_rows_get_entry(rows, 0, &entry));
    bool is_same = entry.index == result.log_index && memcmp(entry.sha256, result.sha256, 32) == 0;
    printf("%s{\"blake3\":\"", divider);
    print_hex(result.blake3);
    printf("\",\"log_index\":%llu,\"name\":\"%s\",\"sha256\":\"", (unsigned long long)result.log_index,
           words[0]);
    print_hex(result.sha256);
    printf("\",\"size\":%llu,\"verified_offline\":%s}", (unsigned long long)result.size,
           is_same ? "true" : "false");
    kogge_rows_free(rows);
    free((void *)(uintptr_t)waybill.ptr);
}

static void print_entries(kogge_node *node) {
    kogge_cursor *cursor = NULL;
    kogge_rows *rows = NULL;
    const char *divider = "";
    check(kogge_log_query_open(node, text("kind=add-artifact order=oldest limit=3"), &cursor, &error));
    kogge_status status;
    while ((status = kogge_cursor_next(cursor, 10000, &rows, &error)) == KOGGE_STATUS_OK) {
        for (size_t at = 0; at < kogge_rows_get_len(rows); at++) {
            kogge_entry entry;
            check(kogge_rows_get_entry(rows, at, &entry));
            printf("%s[%llu,\"%.*s\",\"%.*s\",\"", divider, (unsigned long long)entry.index,
                   (int)entry.purl.len, entry.purl.ptr, (int)entry.file.len, entry.file.ptr);
            print_hex(entry.sha256);
            printf("\"]");
            divider = ",";
        }
        kogge_rows_free(rows);
    }
    if (status == KOGGE_STATUS_END) {
        kogge_error_free(error);
        error = NULL;
        status = KOGGE_STATUS_OK;
    }
    check(status);
    kogge_cursor_free(cursor);
}

int main(int count, char **arguments) {
    if (count < 5 || (count - 5) % 4 != 0) {
        fprintf(stderr, "usage: vectors DATA_DIR GENESIS PEER POLICY (NAME DIGEST PATH WAYBILL)...\n");
        return 2;
    }
    kogge_config *config = NULL;
    kogge_node *node = NULL;
    kogge_bytes genesis = file(arguments[2]), policy = file(arguments[4]);
    check(kogge_config_new(KOGGE_ABI_VERSION, &config, &error));
    check(kogge_config_set_str(config, text("data_dir"), text(arguments[1]), &error));
    check(kogge_config_add_str(config, text("peers"), text(arguments[3]), &error));
    check(kogge_config_set_network(config, KOGGE_NETWORK_GENESIS, genesis, &error));
    check(kogge_node_open(config, 30000, &node, &error));
    kogge_config_free(config);
    check(kogge_node_live(node, 30000, &error));

    printf("{\"artifacts\":[");
    for (int at = 5; at < count; at += 4) {
        print_artifact(node, arguments + at, policy, at == 5 ? "" : ",");
    }
    printf("],\"entries\":[");
    print_entries(node);
    printf("]}\n");

    check(kogge_node_close(node, 30000, &error));
    free((void *)(uintptr_t)genesis.ptr);
    free((void *)(uintptr_t)policy.ptr);
    return kogge_debug_live_handles() == 0 ? 0 : 1;
}
