# Commits, a merge, a rebase, a push through a daemon, garbage collection, a check of everything.
packages='git'
build() { useradd -m -u 1000 user; }
user=user
load() {
    export HOME=/tmp GIT_CONFIG_NOSYSTEM=1
    git config --global user.name a
    git config --global user.email a@b
    git config --global init.defaultBranch main
    git init -q /tmp/one
    cd /tmp/one
    for i in $(seq 20); do echo "$i" >"f$i"; git add .; git commit -qm "change $i"; done
    git checkout -q -b side HEAD~5
    echo side >s; git add s; git commit -qm side
    git rebase -q main
    git checkout -q main
    git merge -q --no-ff --no-edit side
    git init -q --bare /tmp/served
    touch /tmp/served/git-daemon-export-ok
    git -C /tmp/served config daemon.receivepack true
    git daemon --base-path=/tmp --listen=127.0.0.1 --reuseaddr --detach --pid-file=/tmp/pid
    until_so git ls-remote -q git://127.0.0.1/served
    git push -q git://127.0.0.1/served main
    git clone -q git://127.0.0.1/served /tmp/two
    kill "$(cat /tmp/pid)"
    cd /tmp/two
    git gc -q
    git fsck --full --strict >/dev/null 2>&1
    same "$(git rev-list --all --count)" 22
    same "$(git status --porcelain)" ''
}
