/* The smallest user of the library: its versions, as the header and the library tell them. */
#include <stdio.h>
#include <string.h>

#include "kogge.h"

int main(void) {
    kogge_str version = kogge_version();
    if (KOGGE_ABI_VERSION != (KOGGE_ABI_MAJOR << 16 | KOGGE_ABI_MINOR)) {
        return 1;
    }
    if (kogge_abi_version() != KOGGE_ABI_VERSION) {
        return 2;
    }
    if (!kogge_abi_compatible(KOGGE_ABI_VERSION) ||
        kogge_abi_compatible(KOGGE_ABI_VERSION + 1) ||
        kogge_abi_compatible((KOGGE_ABI_MAJOR + 1) << 16) || kogge_abi_compatible(0)) {
        return 3;
    }
    if (kogge_status_get_name(KOGGE_STATUS_NOT_FOUND).len != strlen("not-found")) {
        return 4;
    }
    printf("kogge %.*s, ABI %u.%u\n", (int)version.len, version.ptr,
           (unsigned)(kogge_abi_version() >> 16), (unsigned)(kogge_abi_version() & 0xffff));
    return 0;
}
