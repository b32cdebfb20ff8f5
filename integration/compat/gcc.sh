# C and C++ compiled with optimisation across files, a static and a shared library, a debugger's symbols.
packages='gcc g++ libc6-dev binutils'
heavy=yes
load() {
    cd /tmp
    printf 'int twice(int n) { return 2 * n; }\n' >twice.c
    printf '#include <stdio.h>\nint twice(int);\nint main(void) { printf("%%d\\n", twice(21)); }\n' >main.c
    gcc -O2 -flto -g main.c twice.c -o lto
    same "$(./lto)" 42
    gcc -O2 -fPIC -shared twice.c -o libtwice.so
    gcc main.c -L. -ltwice -Wl,-rpath,/tmp -o shared
    same "$(./shared)" 42
    gcc -c twice.c
    ar rcs libt.a twice.o
    gcc -static main.c libt.a -o static
    same "$(./static)" 42
    printf '#include <thread>\n#include <atomic>\n#include <vector>\n#include <iostream>\nint main() { std::atomic<int> n{0}; std::vector<std::thread> all; for (int i = 0; i < 8; i++) all.emplace_back([&] { for (int j = 0; j < 1000; j++) n++; }); for (auto& t : all) t.join(); std::cout << n << std::endl; }\n' >threads.cc
    g++ -O2 -pthread -fsanitize=undefined threads.cc -o threads
    same "$(./threads)" 8000
}
