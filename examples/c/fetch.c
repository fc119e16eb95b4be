/* Fetches an artifact into a file, and shows how far it is. */
#include "example.h"

static int usage(int code) {
    fprintf(code == 0 ? stdout : stderr,
            "usage: fetch -d FOLDER -o PATH [options] WHAT [FILE]\n"
            "\n"
            "Fetches WHAT (group:artifact:version, an image, a package URL, or a digest), of\n"
            "packages with several files FILE, verifies it against the log, and writes PATH.\n"
            "\n" NODE_USAGE "  -o PATH     where the artifact goes; a file that is there is replaced\n");
    return code;
}

int main(int argc, char **argv) {
    kogge_config *config = new_config();
    kogge_fetch_request request = {.struct_size = sizeof request,
                                   .name = {.struct_size = sizeof request.name}};
    kogge_sink sink = {.struct_size = sizeof sink,
                       .kind = KOGGE_SINK_PATH,
                       .place_flags = KOGGE_PLACE_REPLACE | KOGGE_PLACE_REFLINK};
    kogge_fetch_result result;
    kogge_node *node;
    kogge_op *op = NULL;
    kogge_error *error = NULL;
    int option;
    while ((option = getopt(argc, argv, "d:g:p:o:h")) != -1) {
        if (option == 'o') {
            sink.path = text(optarg);
        } else if (option == 'h') {
            return usage(0);
        } else if (!node_option(config, option, optarg)) {
            return usage(2);
        }
    }
    if (sink.path.len == 0 || optind == argc || optind + 2 < argc) {
        return usage(2);
    }
    request.name.what = text(argv[optind]);
    if (optind + 1 < argc) {
        request.name.file = text(argv[optind + 1]);
    }
    node = open_node(config);
    check("cannot fetch", kogge_fetch_start(node, &request, &sink, NULL, &op, &error), &error);
    while (kogge_op_wait(op, 100) == KOGGE_STATUS_TIMED_OUT) {
        uint64_t done = 0, total = 0;
        if (kogge_op_get_progress(op, &done, &total) == KOGGE_STATUS_OK && total != 0) {
            fprintf(stderr, "\r%3u %% of %llu bytes", (unsigned)(done * 100 / total),
                    (unsigned long long)total);
        }
    }
    fputc('\n', stderr);
    check("cannot fetch", kogge_fetch_finish(op, &result, NULL, NULL, &error), &error);
    printf("%llu bytes, %llu from peers, entry %llu of the log\n", (unsigned long long)result.size,
           (unsigned long long)result.bytes_from_peers, (unsigned long long)result.log_index);
    kogge_op_free(op);
    close_node(node);
    return 0;
}
