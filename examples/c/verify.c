/* Verifies a file offline: no node, no network, no data directory. */
#include "example.h"

static int usage(int code) {
    fprintf(code == 0 ? stdout : stderr,
            "usage: verify (-t POLICY | -g GENESIS) FILE WAYBILL\n"
            "\n"
            "Checks that FILE is the artifact that WAYBILL is about, and that the log of the\n"
            "network that POLICY or GENESIS stands for has it.\n"
            "\n"
            "  -t POLICY   believe the keys in a policy (c2sp.org/tlog-policy)\n"
            "  -g GENESIS  believe the first nodes of a network, and whom they admitted\n");
    return code;
}

int main(int argc, char **argv) {
    kogge_bytes trust = {NULL, 0}, waybill;
    int32_t kind = 0;
    kogge_rows *rows = NULL;
    kogge_entry entry;
    kogge_error *error = NULL;
    int option;
    while ((option = getopt(argc, argv, "t:g:h")) != -1) {
        switch (option) {
        case 't':
        case 'g':
            free((void *)trust.ptr);
            trust = read_file(optarg);
            kind = option == 't' ? KOGGE_TRUST_POLICY : KOGGE_TRUST_GENESIS;
            break;
        default:
            return usage(option == 'h' ? 0 : 2);
        }
    }
    if (kind == 0 || argc - optind != 2) {
        return usage(2);
    }
    waybill = read_file(argv[optind + 1]);
    check(argv[optind],
          kogge_verify_file(text(argv[optind]), waybill, kind, trust, &rows, &error), &error);
    if (kogge_rows_get_entry(rows, 0, &entry) == KOGGE_STATUS_OK) {
        printf("%s is %.*s of %.*s, entry %llu of the log\n", argv[optind], (int)entry.file.len,
               entry.file.ptr, (int)entry.purl.len, entry.purl.ptr,
               (unsigned long long)entry.index);
    }
    kogge_rows_free(rows);
    free((void *)waybill.ptr);
    free((void *)trust.ptr);
    return 0;
}
