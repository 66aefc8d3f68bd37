/* python3.dll: it only forwards (see its .def), so it needs no C library. */
int entry(void *module, unsigned reason, void *reserved) {
    (void)module;
    (void)reason;
    (void)reserved;
    return 1;
}
