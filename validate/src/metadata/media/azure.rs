//! Azure's provisioning medium: `ovf-env.xml` as the fabric writes it.
//!
//! Source: the elements that WALinuxAgent and cloud-init read from it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::super::instance::Instance;
use super::super::xml::Element;

const OVF: &str = "http://schemas.dmtf.org/ovf/environment/1";
const AZURE: &str = "http://schemas.microsoft.com/windowsazure";
const INSTANCE: &str = "http://www.w3.org/2001/XMLSchema-instance";

pub(super) fn files(instance: &Instance) -> Vec<(String, Vec<u8>)> {
    vec![("ovf-env.xml".to_owned(), environment(instance).into_bytes())]
}

fn environment(instance: &Instance) -> String {
    let version = || Element::new("wa:Version").text("1.0");
    Element::new("Environment")
        .attribute("xmlns", OVF)
        .attribute("xmlns:oe", OVF)
        .attribute("xmlns:wa", AZURE)
        .attribute("xmlns:xsi", INSTANCE)
        .with(Element::new("wa:ProvisioningSection").with(version()).with(configuration(instance)))
        .with(
            Element::new("wa:PlatformSettingsSection").with(version()).with(
                Element::new("PlatformSettings")
                    .attribute("xmlns", AZURE)
                    .with(Element::new("KmsServerHostname").text("azkms.core.windows.net"))
                    .with(Element::new("ProvisionGuestAgent").text("true"))
                    .with(Element::new("GuestAgentPackageName").attribute("xsi:nil", "true"))
                    .with(Element::new("RetainWindowsPEPassInUnattend").text("true"))
                    .with(Element::new("RetainOfflineServicingPassInUnattend").text("true"))
                    .with(Element::new("PreprovisionedVm").text("false"))
                    .with(Element::new("PreprovisionedVMType").attribute("xsi:nil", "true"))
                    .with(Element::new("EnableTrustedImageIdentifier").text("false")),
            ),
        )
        .document()
}

fn configuration(instance: &Instance) -> Element {
    let mut set = Element::new("LinuxProvisioningConfigurationSet")
        .attribute("xmlns", AZURE)
        .with(Element::new("ConfigurationSetType").text("LinuxProvisioningConfiguration"))
        .with(Element::new("HostName").text(instance.hostname.as_str()))
        .with(Element::new("UserName").text(instance.admin.as_str()))
        .with(Element::new("DisableSshPasswordAuthentication").text("true"));
    if let Some(user_data) = &instance.user_data {
        set = set.with(Element::new("CustomData").text(BASE64_STANDARD.encode(user_data)));
    }
    if !instance.ssh_keys.is_empty() {
        let path = format!("/home/{}/.ssh/authorized_keys", instance.admin);
        let key = |key: &String| {
            Element::new("PublicKey")
                .with(Element::new("Fingerprint"))
                .with(Element::new("Path").text(path.as_str()))
                .with(Element::new("Value").text(key.as_str()))
        };
        let keys = instance.ssh_keys.iter();
        let keys = keys.fold(Element::new("PublicKeys"), |all, line| all.with(key(line)));
        set = set.with(Element::new("SSH").with(keys));
    }
    set
}
