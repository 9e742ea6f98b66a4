#!/usr/bin/env python3
"""Runs the steps of the Dockerfile in clean roots, without Docker: for machines, like most CI runners' containers, that cannot build images.

    sudo deploy/container/test-image.py [--keep DIR]

Debian's image is made with mmdebstrap; the Node image is the same with the Node of this checkout and the npm of this machine put in. Each FROM is a
copy of its base, RUN is executed by chroot, COPY and ENV and USER do what they say. Then the final root is started as a container would be: process 1
of its own PID namespace, a user that is not root, the root read-only, a fresh tmpfs at /run/outrider. It has to answer, to be healthy, to come back
from a kill, to collect orphans, to stop in order with exit code 0; and its size must not exceed 250 MB. Exit code 77: cannot be done here.
"""
import argparse, json, os, re, shlex, shutil, signal, subprocess, sys, tempfile, time, urllib.error, urllib.request

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
LIMIT_MB = 250
# Steps that bring packages.
FETCHES = re.compile(r"apt-get|npm ci|npm install|collect-apache")
SECONDS = 60


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def run(*args, **more):
    return subprocess.run(args, check=True, **more)


def size_mb(root):
    return int(subprocess.run(["du", "-s", "-x", "--apparent-size", "--block-size=1000000", root], check=True, capture_output=True, text=True).stdout.split()[0])


def instructions(text):
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    text = re.sub(r"\\\n", " ", text)
    for line in text.splitlines():
        if line.strip():
            word, rest = line.strip().split(None, 1)
            yield word.upper(), rest.strip()


class Stage:
    def __init__(self, root, env=None, user="0:0"):
        self.root, self.env, self.user, self.workdir = root, dict(env or {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}), user, "/"
        self.entrypoint, self.healthcheck = None, None

    def environment(self):
        # What this machine needs to reach its package registries is not the image's.
        outer = {k: v for k, v in os.environ.items() if re.match(r"(?i)(https?_proxy|no_proxy|npm_config_|node_extra_ca_certs|ssl_cert)", k)}
        return {**outer, "HOME": "/tmp", "DEBIAN_FRONTEND": "noninteractive", **self.env}

    def run(self, command):
        uid, gid = self.user.split(":")
        inner = shlex.join(["chroot", f"--userspec={uid}:{gid}", self.root, "/bin/sh", "-c", f"cd {shlex.quote(self.workdir)} && {command}"])
        # Programs look themselves up in /proc.
        setup = f"mount -t proc proc {self.root}/proc && mount --rbind /dev {self.root}/dev && exec {inner}"
        run("unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", setup, env=self.environment(), stdout=subprocess.DEVNULL)

    def copy(self, source_root, sources, target):
        folder = os.path.join(self.root, os.path.join(self.workdir, target).lstrip("/"))
        for source in sources:
            for found in expand(source_root, source):
                if os.path.isdir(found):
                    ignored = ignore if source_root == ROOT else None
                    shutil.copytree(found, folder, symlinks=True, dirs_exist_ok=True, ignore=ignored)
                else:
                    into = os.path.join(folder, os.path.basename(found)) if target.endswith(("/", ".")) or len(sources) > 1 or os.path.isdir(folder) else folder
                    os.makedirs(os.path.dirname(into), exist_ok=True)
                    shutil.copy2(found, into)


def expand(root, source):
    return [os.path.join(root, source.lstrip("/").rstrip("/"))]


def ignore(folder, names):
    """What .dockerignore names, as far as it is used there: names, anywhere that they are meant."""
    patterns = [line.strip() for line in open(os.path.join(ROOT, ".dockerignore")) if line.strip()]
    here = os.path.relpath(folder, ROOT)
    import fnmatch
    return [name for name in names if any(fnmatch.fnmatch(os.path.normpath(os.path.join(here, name)), pattern) for pattern in patterns)]


def base_images(work):
    debian = os.path.join(work, "debian")
    options = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "man", "locale", "info")]
    options.append("--dpkgopt=path-include=/usr/share/doc/*/copyright")
    # Only what Debian calls required, and apt: what the slim image has.
    merged = ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--include=usr-is-merged"]
    if subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", *merged, *options, "bookworm", debian], stderr=subprocess.DEVNULL).returncode != 0:
        skip("mmdebstrap could not make Debian's base: is its mirror within reach?")
    shutil.rmtree(os.path.join(debian, "var/lib/apt/lists"), ignore_errors=True)
    for name in ("etc/resolv.conf", "etc/hosts"):
        shutil.copy(f"/{name}", os.path.join(debian, name))
    for ca in ("/etc/ssl/certs/ca-certificates.crt",):
        if os.path.exists(ca):
            os.makedirs(os.path.join(debian, os.path.dirname(ca).lstrip("/")), exist_ok=True)
            shutil.copy(ca, os.path.join(debian, ca.lstrip("/")))
    return debian


def add_node(root):
    node = subprocess.run([os.path.join(ROOT, "bin/node"), "-p", "process.execPath"], check=True, capture_output=True, text=True).stdout.strip()
    shutil.copy2(node, os.path.join(root, "usr/local/bin/node"))
    npm = os.path.realpath(shutil.which("npm"))
    package = os.path.dirname(os.path.dirname(npm))
    shutil.copytree(package, os.path.join(root, "usr/local/lib/node_modules/npm"), symlinks=True)
    os.symlink("../lib/node_modules/npm/bin/npm-cli.js", os.path.join(root, "usr/local/bin/npm"))
    rc = os.path.join(os.path.expanduser("~"), ".npmrc")
    if os.path.exists(rc):
        shutil.copy(rc, os.path.join(root, "tmp/.npmrc"))


def build(work):
    debian = base_images(work)
    print(f"base: {size_mb(debian)} MB")
    stages, stage = {}, None
    for word, rest in instructions(open(os.path.join(ROOT, "Dockerfile")).read()):
        began = time.monotonic()
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            root = os.path.join(work, name or "final")
            run("cp", "-a", "--reflink=auto", debian, root)
            if image.startswith("node:"):
                add_node(root)
            elif not image.startswith("debian:"):
                raise SystemExit(f"no base for {image}")
            stage = stages[name or "final"] = Stage(root)
        elif word == "RUN":
            try:
                stage.run(rest)
            except subprocess.CalledProcessError as error:
                # The checkout itself was installed from these before: what fails here is the way to them.
                if FETCHES.search(rest):
                    skip(f"{rest}: exit code {error.returncode}: are the mirrors of Debian and npm within reach?")
                raise
        elif word == "COPY":
            parts, source_root = shlex.split(rest), ROOT
            if parts[0].startswith("--from="):
                source_root = stages[parts.pop(0)[7:]].root
            stage.copy(source_root, parts[:-1], parts[-1])
        elif word == "ENV":
            stage.env.update(part.split("=", 1) for part in shlex.split(rest))
        elif word == "USER":
            stage.user = rest
        elif word == "WORKDIR":
            stage.workdir = rest
            os.makedirs(os.path.join(stage.root, rest.lstrip("/")), exist_ok=True)
        elif word == "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        elif word == "HEALTHCHECK":
            stage.healthcheck = json.loads(rest.split("CMD", 1)[1])
        elif word not in ("LABEL", "EXPOSE", "STOPSIGNAL"):
            raise SystemExit(f"unknown instruction {word}")
        if time.monotonic() - began > 2:
            print(f"{time.monotonic() - began:5.1f} s  {word} {rest[:100]}")
    return debian, stages["final"]


def until(what, seconds=SECONDS):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = what()
            if found:
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"not within {seconds} s: {what.__doc__ or what.__name__}")


def fetch(port, path="/"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.status, answer.read().decode()


def try_it(stage, user):
    print(f"as user {user}:")
    uid, gid = user.split(":")
    root = stage.root
    for folder in ("proc", "dev", "run", "tmp"):
        os.makedirs(os.path.join(root, folder), exist_ok=True)
    # As a container runtime would: own mounts, PIDs and network; a read-only root. Loopback has to be brought up.
    setup = f"""
set -e
mount --bind {root} {root}
mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs {root}/run/outrider
mount -t proc proc {root}/proc
mount -t tmpfs -o mode=755 tmpfs {root}/dev
for name in null zero full random urandom; do touch {root}/dev/$name; mount --bind /dev/$name {root}/dev/$name; done
ln -s /proc/self/fd {root}/dev/fd; ln -s /proc/self/fd/1 {root}/dev/stdout; ln -s /proc/self/fd/2 {root}/dev/stderr
mount -o remount,bind,ro {root}
cd {root}
exec chroot --userspec={uid}:{gid} {root} {shlex.join(stage.entrypoint)}
"""
    log = tempfile.TemporaryFile()
    env = {k: v for k, v in stage.env.items()}
    outer = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", setup], env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        children = f"/proc/{outer.pid}/task/{outer.pid}/children"
        first = int(until(lambda: open(children).read().split()[:1])[0])
        inside = lambda *command: subprocess.run(
            ["nsenter", "-t", str(first), "-m", "-p", "chroot", f"--userspec={uid}:{gid}", root, *command], env=env, capture_output=True, text=True, timeout=30)

        def answers():
            "the web server answers through the proxy"
            status, body = fetch(10000)
            return status == 200 and "It works" in body
        until(answers)
        print("answers on port 10000")
        assert fetch(9902, "/ready")[0] == 200
        assert "envoy_server_live" in fetch(9902, "/stats/prometheus")[1]
        for path in ("/", "/quitquitquit", "/config_dump"):
            try:
                raise SystemExit(f"the probe listener answers {path}: {fetch(9902, path)[0]}")
            except urllib.error.HTTPError as error:
                assert error.code == 404, error.code
        healthy = inside(*stage.healthcheck)
        assert healthy.returncode == 0, healthy
        status = inside("svstat", "/service/web", "/service/proxy", "/service/web/log", "/service/proxy/log").stdout
        print(status, end="")
        assert status.count(": up (pid ") == 4, status
        pid = int(re.search(r"/service/web: up \(pid (\d+)\)", status).group(1))
        assert inside("svc", "-k", "/service/web").returncode == 0
        until(lambda: pid != int((re.search(r"/service/web: up \(pid (\d+)\)", inside("svstat", "/service/web").stdout) or [0, pid])[1]))
        until(answers)
        print("comes back from a kill of the web server")
        inside("sh", "-c", "sh -c 'sleep 0.2 & sleep 0.1 & exit 0'; sleep 0.5")

        def no_zombies():
            "no process is left as a zombie"
            return " Z " not in inside("sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null").stdout
        until(no_zombies, 10)
        os.kill(first, signal.SIGTERM)
        code = outer.wait(timeout=20)
        assert code == 0, f"exit code {code}"
        print("stops with exit code 0")
        log.seek(0)
        text = log.read().decode()
        assert '"GET / HTTP/1.1" 200' in text, text
        return text
    except BaseException:
        log.seek(0)
        print(log.read().decode()[-4000:])
        raise
    finally:
        outer.kill()
        outer.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", help="build in this folder and leave it")
    keep = parser.parse_args().keep
    if os.getuid() != 0:
        skip("needs root, for chroot and namespaces")
    for tool in ("mmdebstrap", "unshare", "nsenter", "npm"):
        if shutil.which(tool) is None:
            skip(f"{tool} is not installed")
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True).returncode != 0:
        skip("namespaces cannot be made here")
    for port in (10000, 9902, 9901, 8000):
        with __import__("socket").socket() as probe:
            probe.setsockopt(__import__("socket").SOL_SOCKET, __import__("socket").SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                skip(f"port {port}, which the image has fixed, is taken here")
    work = keep or tempfile.mkdtemp(prefix="outrider-image-")
    os.makedirs(work, exist_ok=True)
    os.chmod(work, 0o755)
    try:
        base, final = build(work)
        size = size_mb(final.root)
        print(f"image: {size} MB, of which {size_mb(base)} MB are Debian's")
        if size > LIMIT_MB:
            raise SystemExit(f"larger than {LIMIT_MB} MB")
        # The image's own user, and one that the image does not know, as with docker run --user.
        for user in (final.user, "4711:4711"):
            try_it(final, user)
    finally:
        if keep is None:
            shutil.rmtree(work, ignore_errors=True)
    print("ok")


main()
