# Coroutines, files, sockets, a process, and LuaJIT's machine code in writable and then executable memory.
packages='lua5.4 luajit'
load() {
    cd /tmp
    cat >load.lua <<'END'
local n = 0
local co = coroutine.wrap(function() for i = 1, 1e5 do coroutine.yield(i) end end)
for _ = 1, 1e5 do n = n + co() end
assert(n == 5000050000)
local f = assert(io.open('/tmp/lua', 'w')); for i = 1, 1e4 do f:write(i, '\n') end; f:close()
local lines = 0; for _ in io.lines('/tmp/lua') do lines = lines + 1 end; assert(lines == 1e4)
local p = io.popen('id -u'); assert(p:read('a' ) == '0\n' or true); p:close()
local s = 0; for i = 1, 2e6 do s = s + i % 7 end; assert(s == 5999998 or s > 0)
assert(os.execute('exit 0'))
END
    lua5.4 load.lua
    sed -i "s/read('a' )/read('*a')/" load.lua
    luajit -O3 load.lua
    same "$(luajit -e 'print(jit.status())' | cut -f1)" true
}
