//! The route `nginx`, on nginx 1.22 and 1.26: no lost request, and a configuration that nginx refuses changes nothing.

mod route_support;
mod running_support;
mod support;

use route_support::*;
use running_support::wanted_at_boot;
use support::host::shown;
use support::world::World;

const ROUTE: &str = "--port 8080 --route nginx";

/// The app behind an nginx with Debian's settings and the file that `slotctl new` shows.
fn on_both(hint: &str, story: impl Fn(&World)) {
    route_support::on_both(hint, ROUTE, put_behind_nginx, story);
}

#[test]
fn deployments_lose_no_request_and_a_boot_without_slotd_brings_the_live_slot() {
    on_both("ngx-boot", |world| {
        let checked = world.slotctl("check web");
        assert_eq!(checked.status.code(), Some(0), "{}", shown(&checked));
        deploy_under_load(world);
        mask_slotd(world);
        for how in ["reload", "restart"] {
            world.host.ok(&format!("systemctl {how} nginx.service"));
            expect_everywhere(world, "2.0.0");
        }
        // The gate goes by what is live, and nginx follows.
        world.host.ok("systemctl start web@1.0.0.service");
        switch(world, &[("1.0.0", 1)]);
        expect_everywhere(world, "1.0.0");
        world.host.ok("systemctl restart web.service");
        expect_everywhere(world, "2.0.0");
        // The file is of before the boot: the helper writes it anew before nginx reads it.
        world.host.ok("sed -i 's/^server.*/server 127.0.0.1:1 down;/' /etc/nginx/slotd/web.conf");
        wanted_at_boot(world, "web.service nginx.service");
        world.host.reboot();
        add_others(world);
        expect_everywhere(world, "2.0.0");
        assert_eq!(world.host.ok("systemctl --failed --plain --no-legend"), "");
    });
}

#[test]
fn what_nginx_refuses_leaves_users_where_they_were() {
    on_both("ngx-broken", |world| {
        world.live("web", 8080, "1.0.0");
        let include = world.host.read("/etc/nginx/slotd/web.conf");
        for (spoil, words) in [
            ("echo nonsense >/etc/nginx/conf.d/other.conf", "nginx refuses its configuration: "),
            (
                "sed -i 's/include/# include/; s/^upstream.*/&\\n server 127.0.0.1:20000;/' /etc/nginx/conf.d/web.conf",
                "no upstream of nginx",
            ),
        ] {
            world.host.ok("cp -a /etc/nginx/conf.d /root/saved");
            world.host.ok(spoil);
            let failed = world.deploy("web", &world.artifact("web", "2.0.0", ""));
            // Stop-start: the old slot comes back, and whatever nginx says, its port is the same.
            assert_ne!(failed.status.code(), Some(0), "{}", shown(&failed));
            assert!(told(world).contains(words), "{words}\n{}", told(world));
            world.host.ok("rm -r /etc/nginx/conf.d && mv /root/saved /etc/nginx/conf.d");
            world.host.ok(
                "systemctl reset-failed; systemctl restart slotd-route@web.service && systemctl reload nginx.service",
            );
            expect_everywhere(world, "1.0.0");
            assert_eq!(world.host.read("/etc/nginx/slotd/web.conf"), include, "the old file is back");
            world.host.sh("slotctl quarantine clear web 2.0.0; slotctl cancel web");
        }
        write_file(world, r#"{"format":1,"backends":[{"instance":"1.0.0","port":22,"weight":1}]}"#);
        assert!(!apply(world).status.success());
        expect_everywhere(world, "1.0.0");
    });
}
