//! How lines of configuration may be written, and what blkid itself says of a label.

use std::process::Command;

use nodekiln_validate::ds_identify::BlockDevice;

use super::matrix::{agree, with_dmi};
use super::oracle::oracles;

/// Texts of a file of cloud-init's.
const LISTS: [&str; 20] = [
    "datasource_list: [ OVF, GCE ] # why\n",
    "datasource_list: [ OVF ] # why\n",
    "datasource_list: [ OVF ]   \n",
    "datasource_list: [OVF]",
    "datasource_list:[OVF]\n",
    "datasource_list : [OVF]\n",
    "datasource_list\t:\t[OVF]\n",
    "\"datasource_list\": [OVF]\n",
    "'datasource_list' : ['OVF']\n",
    "  datasource_list: [OVF]\n",
    "xdatasource_list: [OVF]\n",
    "# datasource_list: [OVF]\n",
    "datasource_list: [OVF]\n # datasource_list: [GCE]\n",
    "datasource_list: [OVF,\n  GCE]\n",
    "datasource_list: [OVF, \\\n  GCE]\n",
    "datasource_list: [ OVF  x , GCE\t]\n",
    "datasource_list: [OVF]\r\n",
    "datasource_list: ['OVF', \"GCE\", 'None]\n",
    "datasource_list: OVF, None\n",
    "datasource_list: [O\\VF]\n",
];

/// Texts of the script's own file.
const OWN: [&str; 10] = [
    "datasource: OVF\n",
    "datasource: OVF",
    " datasource :  'OVF'  # why\n",
    "datasource: OVF \t GCE\n",
    "datasource: OVF\r\n",
    "datasource: O\\\nVF\n",
    "policy: \"report\"\n",
    "policy: search, maybe=all\nci.datasource.ec2.strict_id: false\n",
    "policy: maybe=all\nci.datasource.ec2.strict_id: 'false' # why\n",
    "policy: maybe=all\n ci.datasource.ec2.strict_id :\n",
];

#[test]
fn port_and_script_agree_on_how_lines_are_written() {
    for oracle in oracles() {
        let lists = LISTS.map(|text| ("/etc/cloud/cloud.cfg.d/90.cfg", text));
        let own = OWN.map(|text| ("/etc/cloud/ds-identify.cfg", text));
        let pairs = lists.into_iter().chain(own).map(|(path, text)| {
            let mut image = oracle.image();
            image.insert(path.to_owned(), text.as_bytes().to_vec());
            (format!("{text:?}"), with_dmi(|_| {}), image)
        });
        agree(oracle, &pairs.collect::<Vec<_>>());
    }
}

/// What the port takes for blkid's output of a labelled CD is what blkid prints.
#[test]
fn labels_reach_the_script_as_blkid_escapes_them() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("files")).unwrap();
    for label in ["OVF ENV", "config-2", "a,b$c"] {
        let cd = folder.path().join("cd.iso");
        let mut genisoimage = Command::new("genisoimage");
        genisoimage.args(["-quiet", "-V", label, "-o"]).arg(&cd).arg(folder.path().join("files"));
        let made = genisoimage.status().unwrap();
        assert!(made.success());
        let path = "/usr/sbin:/sbin:/usr/bin:/bin";
        let mut blkid = Command::new("blkid");
        let told = blkid.env("PATH", path).args(["-p", "-o", "export"]).arg(&cd).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let told: Vec<&str> = told
            .lines()
            .filter(|line| ["LABEL=", "TYPE="].iter().any(|name| line.starts_with(name)))
            .collect();
        let device = BlockDevice::labelled("/dev/sr0".to_owned(), label, "iso9660").export();
        assert_eq!(told, device.lines().skip(1).collect::<Vec<_>>(), "{label}");
    }
}
