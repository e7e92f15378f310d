//! vSphere's OVF environment: properties of the machine, on a CD.
//!
//! Source: DSP0243, Open Virtualization Format, section "OVF environment document"; the properties that
//! cloud-init's OVF datasource reads.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::super::instance::Instance;
use super::super::xml::Element;

const OVF: &str = "http://schemas.dmtf.org/ovf/environment/1";

pub(super) fn files(instance: &Instance) -> Vec<(String, Vec<u8>)> {
    vec![("ovf-env.xml".to_owned(), environment(instance).into_bytes())]
}

fn environment(instance: &Instance) -> String {
    let mut properties = vec![
        ("instance-id", instance.instance_id()),
        ("hostname", instance.hostname.clone()),
        ("network-config", BASE64_STANDARD.encode(network(instance))),
    ];
    if !instance.ssh_keys.is_empty() {
        properties.push(("public-keys", instance.ssh_keys.join("\n")));
    }
    if let Some(user_data) = &instance.user_data {
        properties.push(("user-data", BASE64_STANDARD.encode(user_data)));
    }
    let property = |(key, value): (&str, String)| {
        Element::new("Property").attribute("oe:key", key).attribute("oe:value", value)
    };
    let platform = Element::new("PlatformSection")
        .with(Element::new("Kind").text("VMware ESXi"))
        .with(Element::new("Version").text("8.0.0"))
        .with(Element::new("Vendor").text("VMware, Inc."))
        .with(Element::new("Locale").text("en"));
    let section = properties.into_iter().map(property);
    let section = section.fold(Element::new("PropertySection"), Element::with);
    Element::new("Environment")
        .attribute("xmlns", OVF)
        .attribute("xmlns:oe", OVF)
        .attribute("oe:id", "")
        .with(platform)
        .with(section)
        .document()
}

/// cloud-init wants the network's configuration below a key of that name. The default route is named, since
/// QEMU's closed network announces none.
fn network(instance: &Instance) -> String {
    let card = json!({
        "match": { "macaddress": instance.mac.to_string() },
        "set-name": "eth0",
        "dhcp4": true,
        "routes": [{ "to": "0.0.0.0/0", "via": instance.gateway }],
    });
    json!({ "network": { "version": 2, "ethernets": { "primary": card } } }).to_string()
}
