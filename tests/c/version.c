/* The smallest user of the library: prints both versions and misuses a NULL. */
#include <stdio.h>

#include "kogge.h"

int main(void) {
    uint32_t abi = 0;
    if (kogge_abi_version(NULL) != KOGGE_STATUS_NULL_ARGUMENT) {
        return 1;
    }
    if (kogge_abi_version(&abi) != KOGGE_STATUS_OK || abi != KOGGE_ABI_VERSION) {
        return 2;
    }
    printf("kogge %s, ABI %u\n", kogge_version(), (unsigned)abi);
    return 0;
}
