/* sleeper.exe SECONDS [another]: a program that starts quickly; `another` starts one more first. */
#include <stdlib.h>
#include <windows.h>

int main(int argc, char **argv) {
    if (argc > 2) {
        char path[MAX_PATH], line[MAX_PATH + 32];
        STARTUPINFOA info = {.cb = sizeof info};
        PROCESS_INFORMATION process;
        GetModuleFileNameA(NULL, path, sizeof path);
        lstrcpyA(line, "sleeper.exe ");
        lstrcatA(line, argv[1]);
        if (!CreateProcessA(path, line, NULL, NULL, FALSE, 0, NULL, NULL, &info, &process)) {
            return 3;
        }
    }
    Sleep((DWORD)atoi(argv[1]) * 1000);
    return 0;
}
