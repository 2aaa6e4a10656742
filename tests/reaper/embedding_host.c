/* Runs one Python script several times in one of the ways a host can embed Python.

   embedding_host LIBPYTHON SCRIPT MODE RUNS
   MODE O: one interpreter for ever
        S: an interpreter of its own per run (Py_NewInterpreter, Py_EndInterpreter)
        F: Python started and ended per run (Py_InitializeEx, Py_FinalizeEx)
   Ends with 0 if every run of the script ended without an exception. */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *library;

static void *find(const char *name)
{
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(2);
    }
    return found;
}

static char *read_script(const char *path)
{
    FILE *file = fopen(path, "rb");
    long size;
    char *text;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0) {
        perror(path);
        exit(2);
    }
    rewind(file);
    text = calloc((size_t)size + 1, 1);
    if (text == NULL || fread(text, 1, (size_t)size, file) != (size_t)size) {
        perror(path);
        exit(2);
    }
    fclose(file);
    return text;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: %s LIBPYTHON SCRIPT O|S|F RUNS\n", argv[0]);
        return 2;
    }
    /* Global, or the extension modules of the standard library find no symbols of it. */
    library = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }

    /* 0: no signal handlers, as a host that has its own would ask; SIGPIPE then ends the process. */
    void (*initialize)(int) = (void (*)(int))find("Py_InitializeEx");
    int (*finalize)(void) = (int (*)(void))find("Py_FinalizeEx");
    int (*run)(const char *, void *) = (int (*)(const char *, void *))find("PyRun_SimpleStringFlags");
    void *(*new_interpreter)(void) = (void *(*)(void))find("Py_NewInterpreter");
    void (*end_interpreter)(void *) = (void (*)(void *))find("Py_EndInterpreter");
    void *(*thread_state)(void) = (void *(*)(void))find("PyThreadState_Get");
    void *(*swap)(void *) = (void *(*)(void *))find("PyThreadState_Swap");

    char *script = read_script(argv[2]);
    char mode = argv[3][0];
    int runs = atoi(argv[4]);
    int failed = 0;

    if (strchr("OSF", mode) == NULL || runs < 1) {
        fprintf(stderr, "no mode %s, or no runs %s\n", argv[3], argv[4]);
        return 2;
    }
    if (mode != 'F')
        initialize(0);
    for (int at = 0; at < runs; at++) {
        if (mode == 'F')
            initialize(0);
        if (mode == 'S') {
            void *home = thread_state();
            void *own = new_interpreter();
            if (own == NULL) {
                fprintf(stderr, "no interpreter for run %d\n", at + 1);
                return 2;
            }
            failed += run(script, NULL) != 0;
            end_interpreter(own);
            swap(home);
        } else {
            failed += run(script, NULL) != 0;
        }
        if (mode == 'F')
            failed += finalize() != 0;
    }
    if (mode != 'F')
        failed += finalize() != 0;
    free(script);
    return failed != 0;
}
