#!/bin/sh
# Installs the outside tools of tests/interop, each in an environment of its own:  sh install.sh FOLDER
# Then:  CONTOUR_AI_INTEROP=FOLDER pytest -m interop
# Needs Python 3.10-3.11 (opentps-core 2.0.0), 7 GB of disk (pyCERR alone 2.7), no GPU; Debian packages: apt install dicom3tools dcmtk orthanc
set -eu
folder=$1
python=${PYTHON:-python3}
environment() {  # NAME PACKAGE...
    name=$1; shift
    [ -x "$folder/$name/bin/python" ] || "$python" -m venv "$folder/$name"
    "$folder/$name/bin/pip" install --quiet "$@" || echo "$name: not installed, its tests will be skipped" >&2
}
environment plastimatch 'plastimatch==1.10.0'
environment dcmrtstruct2nii 'dcmrtstruct2nii==5' 'pydicom<3'
environment pycerr 'pycerr==2.5.1'
environment opentps 'opentps-core==2.0.0' matplotlib
# pyRadPlan also asks for assistants of language models, which its DICOM import does not use.
environment pyradplan numpy scipy h5py matplotlib numpydantic Pint pydantic pydantic-settings pydicom pymatreader \
    regex SimpleITK tqdm array-api-compat array-api-extra array_api_strict Jinja2
environment pyradplan --no-deps 'pyRadPlan==0.5.0'
environment dicompyler 'dicompyler-core==0.5.6' 'pydicom<3' shapely
environment dicomrttool 'DicomRTTool==6.2.0'
environment dicom_validator 'dicom-validator==0.9.0' 'highdicom==0.28.2'
