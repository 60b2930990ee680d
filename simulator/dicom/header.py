"""The modules that every image of a study shares: patient, study, series, frame of reference, equipment, contrast."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from simulator.dicom.identity import (
    IMPLEMENTATION_CLASS,
    IMPLEMENTATION_VERSION,
    Examination,
    date_text,
    decimal,
    time_text,
)
from simulator.protocol import SeriesPlan


@dataclass(frozen=True)
class Product:
    """A contrast agent as sold: what the technologist types, mmol/ml, mg/ml, and its SNOMED CT code."""

    label: str
    strength: float
    weight_per_volume: float
    code: str
    meaning: str


PRODUCTS = {
    "gadoterate": Product("Dotarem (gadoterate meglumine)", 0.5, 279.32, "712714000", "Gadoterate meglumine"),
    "gadobutrol": Product("Gadovist (gadobutrol)", 1.0, 604.72, "407976008", "Gadobutrol"),
}


def file_meta(sop_class: UID) -> FileMetaDataset:
    """File meta information; the SOP Instance UID is filled in for each file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    return meta


def shared_header(examination: Examination, plan: SeriesPlan) -> Dataset:
    """Patient, General Study, Patient Study, General Series, Frame of Reference and General Equipment modules."""
    person, scanner = examination.person, examination.scanner
    began = examination.at(plan.start)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName = person.name
    ds.PatientID = person.identifier
    ds.PatientBirthDate = person.birth_date.strftime("%Y%m%d")
    ds.PatientSex = person.sex
    age = examination.started.year - person.birth_date.year
    ds.PatientAge = f"{age:03d}Y"
    ds.PatientWeight = decimal(person.weight)
    ds.PatientComments = "Simulated patient. Not a person."
    ds.StudyInstanceUID = examination.study_uid
    ds.StudyDate = date_text(examination.started)
    ds.StudyTime = time_text(examination.started)
    ds.StudyID = "1"
    ds.AccessionNumber = f"A{person.identifier}"[:16]
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Brain MRI with two injections (simulated)"
    ds.Modality = "MR"
    ds.SeriesInstanceUID = examination.series_uid(plan.number)
    ds.SeriesNumber = plan.number
    ds.SeriesDate = date_text(began)
    ds.SeriesTime = time_text(began)
    ds.SeriesDescription = plan.description
    ds.ProtocolName = plan.description
    ds.BodyPartExamined = "BRAIN"
    ds.PatientPosition = "HFS"
    ds.PerformedProcedureStepStartDate = date_text(examination.started)
    ds.PerformedProcedureStepStartTime = time_text(examination.started)
    ds.FrameOfReferenceUID = examination.frame_of_reference_uid
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer = scanner.manufacturer
    ds.ManufacturerModelName = scanner.model
    ds.SoftwareVersions = scanner.software.split("\\")
    ds.InstitutionName = "Simulated Hospital"
    ds.StationName = "SIMMR1"
    ds.DeviceSerialNumber = "0"
    ds.MagneticFieldStrength = decimal(scanner.field_tesla)
    return ds


def contrast_header(examination: Examination, plan: SeriesPlan) -> Dataset:
    """Contrast/Bolus module (PS3.3 C.7.6.4); empty before the first injection.

    Contrast/Bolus Volume is what was given last, Contrast/Bolus Total Dose all that had been given, both in ml.
    """
    ds = Dataset()
    if not plan.injections:
        return ds
    product = PRODUCTS[examination.scanner.agent]
    last = plan.injections[-1]
    ds.ContrastBolusAgent = product.label
    ds.ContrastBolusRoute = "IV"
    ds.ContrastBolusVolume = decimal(administered_volume(last.dose, examination, product))
    ds.ContrastBolusStartTime = time_text(examination.at(last.minute))
    ds.ContrastBolusTotalDose = decimal(
        sum(administered_volume(one.dose, examination, product) for one in plan.injections)
    )
    ds.ContrastBolusIngredient = "GADOLINIUM"
    ds.ContrastBolusIngredientConcentration = decimal(product.weight_per_volume)
    return ds


def administered_volume(dose: float, examination: Examination, product: Product) -> float:
    """ml of the product that make up ``dose`` mmol/kg for this patient."""
    return round(dose * examination.person.weight / product.strength, 2)
