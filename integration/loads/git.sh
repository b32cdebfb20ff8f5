# Init, commit, branch, merge, clone, gc; held out: rebase, stash, patches, a daemon, archives, blame.
prepare() {
    put /load/recorded.sh <<'END'
set -e
export HOME=/root GIT_CONFIG_NOSYSTEM=1
git config --global user.name a; git config --global user.email a@b; git config --global init.defaultBranch main
git init -q /tmp/one; cd /tmp/one
i=0; while [ $i -lt 15 ]; do echo "$i" >>file; echo "$i" >"f$i"; git add .; git commit -qm "change $i"; i=$((i + 1)); done
git branch side; git checkout -q side; echo side >s; git add s; git commit -qm side; git checkout -q main
git merge -q --no-edit side; git tag -a -m v1 v1; git log --stat >/dev/null; git diff HEAD~3 >/dev/null; git status >/dev/null
git clone -q --no-local /tmp/one /tmp/two; cd /tmp/two; echo x >x; git add x; git commit -qm x; git push -q origin HEAD:new
git fetch -q; git gc -q; git fsck --full >/dev/null 2>&1; git reflog >/dev/null; git rev-list --all --count
echo LOAD DONE
END
    put /load/held_out.sh <<'END'
set -e
export HOME=/root GIT_CONFIG_NOSYSTEM=1
git config --global user.name a; git config --global user.email a@b; git config --global init.defaultBranch main
git init -q /tmp/one; cd /tmp/one
i=0; while [ $i -lt 6 ]; do echo "$i" >>file; git add .; git commit -qm "change $i"; i=$((i + 1)); done
git checkout -q -b topic HEAD~2; echo t >t; git add t; git commit -qm t; git rebase -q main
echo dirty >>file; git stash -q; git stash pop -q; git checkout -q file; git format-patch -q -2 -o /tmp/p; git reset -q --hard HEAD~2; git am -q /tmp/p/*
git blame file >/dev/null; git grep -q 3; git archive --format=tar HEAD >/tmp/a.tar
git daemon --base-path=/tmp --export-all --listen=127.0.0.1 --reuseaddr --detach --pid-file=/tmp/daemon
until git ls-remote -q git://127.0.0.1/one >/dev/null 2>&1; do sleep 0.1; done
git clone -q git://127.0.0.1/one /tmp/three; git -C /tmp/three worktree add -q /tmp/four; git repack -adq; git bundle create -q /tmp/b HEAD
git clean -fdxq; git describe --always; git shortlog -s HEAD </dev/null; git bisect start HEAD HEAD~3 >/dev/null; git bisect reset >/dev/null 2>&1
git sparse-checkout set x; git maintenance run --task=gc; kill "$(cat /tmp/daemon)"
echo LOAD DONE
END
}
