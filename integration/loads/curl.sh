# Downloads, uploads, headers, redirects, cookies; held out: parallel transfers, resumption, a Unix socket's
# absence, retries, FTP that is refused, a netrc.
prepare() {
    text 200000 >"$CLIENTS/tmp/text.txt"
    cp "$here/curl.py" "$CLIENTS/tmp/"
    text 100000 | put /tmp/upload
    put /load/recorded <<'END'
silent
show-error
fail
output = /tmp/1
url = http://localhost:8000/text.txt
next
silent
compressed
dump-header = /tmp/headers
cookie-jar = /tmp/cookies
output = /tmp/2
url = http://127.0.0.1:8000/text.txt
next
silent
location
upload-file = /tmp/upload
url = http://127.0.0.1:8000/put
output = /tmp/3
next
silent
data = a=b
url = http://127.0.0.1:8000/post
write-out = "LOAD DONE\n"
output = /tmp/4
END
    put /load/held_out <<'END'
silent
parallel
parallel-max = 4
url = http://127.0.0.1:8000/text.txt?1
output = /tmp/1
url = http://127.0.0.1:8000/text.txt?2
output = /tmp/2
url = http://localhost:8000/text.txt?3
output = /tmp/3
continue-at = -
limit-rate = 2m
connect-timeout = 2
max-time = 5
remote-time
create-dirs
form = f=@/tmp/upload
write-out = "LOAD DONE\n"
END
}
beside() { client python3 /tmp/curl.py; }
