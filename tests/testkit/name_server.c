/* Preloaded into a process, stands in for its name server. The look-up of a name that ends in ".silent" takes a minute and fails, as
 * if the server did not answer. One that ends in ".moving" is looked up in the file that NAMES_FILE names, anew each time: a line
 * has a name, a space and an address. Other names are looked up as usual. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int ends_with(const char *name, const char *end) {
    size_t length = strlen(name), end_length = strlen(end);
    return length > end_length && strcmp(name + length - end_length, end) == 0;
}

/* Whether the file has the name; its address is then in found, which has room for 64 bytes. */
static int find(const char *name, char *found) {
    const char *path = getenv("NAMES_FILE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line_name[256];
    int is_found = 0;
    if (!file) return 0;
    while (!is_found && fscanf(file, "%255s %63s", line_name, found) == 2) is_found = strcmp(line_name, name) == 0;
    fclose(file);
    return is_found;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
                struct addrinfo **restrict found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
    char address[64];
    if (node && ends_with(node, ".silent")) {
        sleep(60);
        return EAI_AGAIN;
    }
    if (node && ends_with(node, ".moving")) return find(node, address) ? real(address, service, hints, found) : EAI_NONAME;
    return real(node, service, hints, found);
}
