/* Searches the log, page by page. */
#include "example.h"

static int usage(int code) {
    fprintf(code == 0 ? stdout : stderr,
            "usage: search -d FOLDER [options] [TERM=VALUE]...\n"
            "\n"
            "Prints the entries of the log for which all terms hold, such as\n"
            "kind=add-artifact, package=pkg:maven/org.example/lib, order=oldest, limit=100.\n"
            "\n" NODE_USAGE);
    return code;
}

static void print(const kogge_rows *rows) {
    size_t at;
    kogge_entry entry;
    for (at = 0; kogge_rows_get_entry(rows, at, &entry) == KOGGE_STATUS_OK; at++) {
        printf("%llu %.*s %.*s %.*s %llu\n", (unsigned long long)entry.index, (int)entry.kind.len,
               entry.kind.ptr, (int)entry.purl.len, entry.purl.ptr, (int)entry.file.len,
               entry.file.ptr, (unsigned long long)entry.size);
    }
}

int main(int argc, char **argv) {
    kogge_config *config = new_config();
    char query[4096] = "";
    kogge_node *node;
    kogge_cursor *cursor = NULL;
    kogge_rows *rows = NULL;
    kogge_status status;
    kogge_error *error = NULL;
    int option;
    while ((option = getopt(argc, argv, "d:g:p:h")) != -1) {
        if (option == 'h') {
            return usage(0);
        }
        if (!node_option(config, option, optarg)) {
            return usage(2);
        }
    }
    for (; optind < argc; optind++) {
        if (sizeof query <= strlen(query) + strlen(argv[optind]) + 1) {
            return usage(2);
        }
        strcat(strcat(query, " "), argv[optind]);
    }
    node = open_node(config);
    check("cannot search", kogge_log_query_open(node, text(query), &cursor, &error), &error);
    while ((status = kogge_cursor_next(cursor, 10000, &rows, &error)) == KOGGE_STATUS_OK) {
        print(rows);
        kogge_rows_free(rows);
    }
    if (status != KOGGE_STATUS_END) {
        check("cannot search", status, &error);
    }
    kogge_error_free(error);
    kogge_cursor_free(cursor);
    close_node(node);
    return 0;
}
