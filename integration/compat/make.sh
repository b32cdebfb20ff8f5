# A build of 120 files with make -j4 through a job server, then again with nothing to do, as a user.
packages='gcc libc6-dev make'
build() { useradd -m -u 1000 user; }
user=user
load() {
    mkdir -p /tmp/tree && cd /tmp/tree
    for i in $(seq 120); do
        printf 'int f%s(int n) { int s = 0; for (int i = 0; i < n; i++) s += i * %s; return s; }\n' "$i" "$i" >f$i.c
    done
    {
        for i in $(seq 120); do echo "int f$i(int);"; done
        echo '#include <stdio.h>'
        echo 'int main(void) { long s = 0;'
        for i in $(seq 120); do echo "s += f$i(3);"; done
        echo 'printf("%ld", s); }'
    } >main.c
    printf 'o := $(patsubst %%.c,%%.o,$(wildcard *.c))\nall:\n\t+$(MAKE) --no-print-directory program\nprogram: $(o)\n\t$(CC) -o $@ $^\n%%.o: %%.c\n\t$(CC) -O1 -c $<\n' >Makefile
    make -s -j4
    same "$(./program)" 21780
    make -s -j4 -q program
    same "$(stat -c %u program)" 1000
}
