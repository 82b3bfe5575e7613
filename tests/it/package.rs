//! The Debian package: built, installed without a network, used, upgraded, removed and purged, in an overlay of this
//! machine that is thrown away. The RPM package: built from the same files, and installed into a directory.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::scene::{Scene, root};

/// Both are put together in one place.
static STAGE: Mutex<()> = Mutex::new(());

/// What happens to the packages `one.deb` and `two.deb`, in a root of its own.
const LIFE: &str = r#"
set -eu
say() { echo "== $*"; }

say install
dpkg -i /packages/one.deb >/packages/log 2>&1
watchdog --version
test "$(command -v watchdog)" = /usr/bin/watchdog
for page in watchdog.1 watchdog-check.1 watchdog-why.1; do gzip -t /usr/share/man/man1/$page.gz; done
gzip -t /usr/share/man/man5/watchdog.toml.5.gz
test -s /usr/share/bash-completion/completions/watchdog
test -s /usr/share/zsh/vendor-completions/_watchdog
test -s /usr/share/fish/vendor_completions.d/watchdog.fish
test -s /etc/logrotate.d/service-watchdog
# dpkg can be told to leave documentation out
if [ -d /usr/share/doc/service-watchdog/docs ]; then
    test -s /usr/share/doc/service-watchdog/docs/troubleshooting.md || test -s /usr/share/doc/service-watchdog/docs/troubleshooting.md.gz
fi

# the units, where this source has them
[ -z "$UNITS" ] || grep -q '^ExecStart=/usr/bin/watchdog ' /usr/lib/systemd/system/watchdog.service
[ -z "$UNITS" ] || test -s /usr/lib/systemd/system/watchdog.timer
grep -q '^ExecStart=-/usr/bin/watchdog web ' /usr/lib/systemd/system/watchdog-web@.service
for unit in watchdog-web.socket watchdog-requests.path watchdog-requests.service; do test -s /usr/lib/systemd/system/$unit; done
grep -q ^u /usr/lib/sysusers.d/service-watchdog.conf
grep -q ^d /usr/lib/tmpfiles.d/service-watchdog.conf

say nothing is enabled
test -z "$(find /etc/systemd /etc/cron* -name '*watchdog*' -o -lname '*watchdog*' 2>/dev/null)"

say use
cat >/etc/watchdog/watchdog.toml <<END
[service.a]
spawn = { command = ["sleep", "1000"] }
END
watchdog validate
watchdog check || test $? = 1
watchdog check
watchdog history
watchdog why a
test -s /var/lib/watchdog/state.json

say upgrade
echo '# mine' >>/etc/logrotate.d/service-watchdog
dpkg -i /packages/two.deb >/packages/log 2>&1
grep -q '# mine' /etc/logrotate.d/service-watchdog
watchdog check

say remove
kill "$(watchdog status --json | sed 's/.*"pid":\([0-9]*\).*/\1/')"
dpkg -r service-watchdog >/packages/log 2>&1
test ! -e /usr/bin/watchdog
test -s /var/lib/watchdog/state.json

say purge
dpkg -P service-watchdog >/packages/log 2>&1
test ! -e /var/lib/watchdog
test ! -e /var/lib/watchdog-web
test ! -e /etc/logrotate.d/service-watchdog
test -s /etc/watchdog/watchdog.toml
say done
"#;

#[test]
#[ignore = "needs root, dpkg and cargo-deb"]
fn the_debian_package_lives_its_life() {
    assert!(root());
    let scene = Scene::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    for (file, version) in [("one.deb", "0.0.1-1"), ("two.deb", "0.0.2-1")] {
        let built = Command::new(source.join("contrib/debian/build"))
            .args(["--fast", "--deb-version", version, "--output"])
            .arg(scene.path(file))
            .env("PROFILE", "dev")
            .current_dir(source)
            .output()
            .unwrap();
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
    }
    drop(stage);
    scene.write("life.sh", LIFE);
    // a network of its own, with nothing in it, and a root that is a layer upon this one
    let script = "set -eu
        mkdir layer && mount -t tmpfs tmpfs layer && mkdir layer/upper layer/work layer/root
        mount -t overlay overlay -o lowerdir=/,upperdir=layer/upper,workdir=layer/work layer/root
        mkdir layer/root/packages
        cp one.deb two.deb life.sh layer/root/packages/
        mount -t proc proc layer/root/proc
        mount -t tmpfs tmpfs layer/root/run
        chroot layer/root /bin/sh /packages/life.sh || { cat layer/root/packages/log; exit 1; }";
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount", "--net", "--pid", "--fork", "/bin/sh", "-c", script,
        ])
        .current_dir(scene.dir())
        .env_clear()
        .env(
            "UNITS",
            if source.join("contrib/watchdog.timer").exists() {
                "yes"
            } else {
                ""
            },
        )
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
    let outcome = scene.finish(command).exits(0);
    for step in ["install", "use", "upgrade", "purge", "done"] {
        assert!(outcome.stdout.contains(&format!("== {step}")), "{step}");
    }
    assert!(outcome.stdout.contains("restarted"), "{}", outcome.stdout);
}

#[test]
#[ignore = "needs rpm"]
fn the_rpm_package_holds_the_program_and_all_that_belongs_to_it() {
    let scene = Scene::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let built = Command::new(source.join("contrib/rpm/build"))
        .args(["--define", "_binary_payload w1.gzdio", "--define"])
        .arg(format!("_rpmdir {}", scene.dir()))
        .env("PROFILE", "dev")
        .current_dir(source)
        .output()
        .unwrap();
    drop(stage);
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let said = scene
        .shell(
            "set -eu; mv */service-watchdog-*.rpm one.rpm; rpm -qp --conflicts one.rpm; rpm -qcp one.rpm; mkdir root; \
             rpm --root {dir}/root --nodeps --noscripts -i one.rpm; root/usr/bin/watchdog --version; \
             find root/etc/systemd root/etc/cron* 2>/dev/null || true",
        )
        .exits(0)
        .stdout;
    let version = concat!("watchdog ", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        said,
        format!("watchdog\n/etc/logrotate.d/service-watchdog\n{version}\n")
    );
    for file in [
        "etc/watchdog",
        "etc/logrotate.d/service-watchdog",
        "usr/lib/systemd/system/watchdog.timer",
        "usr/lib/systemd/system/watchdog-report.timer",
        "usr/lib/systemd/system/watchdog-report.service",
        "usr/lib/systemd/user/watchdog.timer",
        "usr/share/man/man1/watchdog-check.1",
        "usr/share/man/man5/watchdog.toml.5",
        "usr/share/bash-completion/completions/watchdog",
        "usr/share/zsh/site-functions/_watchdog",
        "usr/share/fish/vendor_completions.d/watchdog.fish",
        "usr/share/doc/service-watchdog/examples/watchdog.toml",
        "usr/share/doc/service-watchdog/README.md",
        "usr/share/doc/service-watchdog/docs/troubleshooting.md",
        "usr/share/doc/service-watchdog/docs/terminal.svg",
        "usr/share/doc/service-watchdog/contrib/container/compose.yml",
        "usr/share/doc/service-watchdog/contrib/crontab",
        "usr/share/doc/service-watchdog/contrib/fleet/fleet.rules.yml",
        "usr/share/doc/service-watchdog/LICENSE",
    ] {
        assert!(scene.has(&format!("root/{file}")), "{file}");
    }
    let unit = scene.read("root/usr/lib/systemd/system/watchdog.service");
    assert!(unit.contains("\nExecStart=/usr/bin/watchdog "), "{unit}");
}
