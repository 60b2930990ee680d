"""Bias correction, registration and resampling as a user of SimpleITK, ANTs or elastix would write them.

    python benchmarks/rivals.py {simpleitk,ants,tuned} WORK.npz RESULT.npz

Runs in an environment of its own (``pip install antspyx==0.6.3 itk-elastix==0.25.4 SimpleITK``, which hold numpy and
scipy back) and so imports nothing of the product. WORK holds, for each series, ``NAME`` [k, j, i] and ``NAME_grid``
(4 × 4, index to LPS mm), the ``brain`` on the T1's grid, the ``template`` and the network's grid as ``network``
(size and 4 × 4). RESULT gets a matrix per series (fixed to moving LPS) and the CPU seconds of each step.
"""

from __future__ import annotations

import os
import sys
import time

THREADS = "2"
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = THREADS

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402

TO_REGISTER = {"flair": "flair", "b0": "adc", "low_dose": "low_dose"}
BIASED = ("t1", "flair", "low_dose")


def sitk_image(array: np.ndarray, grid: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    spacing = np.linalg.norm(grid[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(grid[:3, 3].tolist())
    image.SetDirection((grid[:3, :3] / spacing).ravel().tolist())
    return image


def matrix_of(transform: sitk.Transform) -> np.ndarray:
    corners = np.vstack([np.zeros(3), np.eye(3)])
    moved = np.array([transform.TransformPoint(point.tolist()) for point in corners])
    matrix = np.eye(4)
    matrix[:3, 3], matrix[:3, :3] = moved[0], (moved[1:] - moved[0]).T
    return matrix


class SimpleITKDefaults:
    """N4 with its defaults inside an Otsu mask, and the registration of SimpleITK's tutorials."""

    def n4(self, image: sitk.Image, brain: sitk.Image | None) -> sitk.Image:
        return sitk.N4BiasFieldCorrection(image, sitk.OtsuThreshold(image, 0, 1, 200))

    def register(self, fixed: sitk.Image, moving: sitk.Image, brain: sitk.Image | None, affine: bool) -> np.ndarray:
        kind = sitk.AffineTransform(3) if affine else sitk.Euler3DTransform()
        start = sitk.CenteredTransformInitializer(fixed, moving, kind, sitk.CenteredTransformInitializerFilter.GEOMETRY)
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(50)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(0.01, seed=1)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2, 1])
        method.SetSmoothingSigmasPerLevel([2, 1, 0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        method.SetInitialTransform(start, inPlace=False)
        return matrix_of(method.Execute(fixed, moving))

    def onto(self, image: sitk.Image, grid: sitk.Image, matrix: np.ndarray) -> np.ndarray:
        transform = sitk.AffineTransform(3)
        transform.SetMatrix(matrix[:3, :3].ravel().tolist())
        transform.SetTranslation(matrix[:3, 3].tolist())
        return sitk.GetArrayFromImage(sitk.Resample(image, grid, transform, sitk.sitkLinear, 0.0, sitk.sitkFloat32))


class Tuned(SimpleITKDefaults):
    """N4 on every fourth voxel inside the brain, and elastix with its own parameter maps."""

    def n4(self, image: sitk.Image, brain: sitk.Image | None) -> sitk.Image:
        mask = sitk.Resample(brain, image, sitk.Transform(), sitk.sitkNearestNeighbor) if brain else None
        shrink = [max(1, round(4 / spacing)) for spacing in image.GetSpacing()]
        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.Execute(sitk.Shrink(image, shrink), sitk.Shrink(mask, shrink))
        return image / sitk.Exp(n4.GetLogBiasFieldAsImage(image))

    def register(self, fixed: sitk.Image, moving: sitk.Image, brain: sitk.Image | None, affine: bool) -> np.ndarray:
        import itk

        parameters = itk.ParameterObject.New()
        parameters.AddParameterMap(parameters.GetDefaultParameterMap("affine" if affine else "rigid"))
        _, found = itk.elastix_registration_method(
            itk_image(fixed), itk_image(moving), parameter_object=parameters, number_of_threads=int(THREADS)
        )
        last = found.GetParameterMap(found.GetNumberOfParameterMaps() - 1)
        values = [float(value) for value in last["TransformParameters"]]
        centre = [float(value) for value in last["CenterOfRotationPoint"]]
        if affine:
            transform: sitk.Transform = sitk.AffineTransform(3)
            transform.SetFixedParameters(centre)
            transform.SetParameters(values)
        else:
            euler = sitk.Euler3DTransform(centre, *values[:3], values[3:])
            euler.SetComputeZYX(last.get("ComputeZYX", ["false"])[0] == "true")
            transform = euler
        return matrix_of(transform)


class Ants(SimpleITKDefaults):
    """ANTsPy's defaults: N4, rigid between series, affine to the template."""

    def n4(self, image: sitk.Image, brain: sitk.Image | None) -> sitk.Image:
        import ants

        return from_ants(ants.n4_bias_field_correction(ants_image(image)), image)

    def register(self, fixed: sitk.Image, moving: sitk.Image, brain: sitk.Image | None, affine: bool) -> np.ndarray:
        import ants

        kind = "Affine" if affine else "Rigid"
        found = ants.registration(ants_image(fixed), ants_image(moving), type_of_transform=kind, random_seed=1)
        return matrix_of(sitk.ReadTransform(found["fwdtransforms"][0]))


def itk_image(image: sitk.Image):
    import itk

    made = itk.image_from_array(sitk.GetArrayFromImage(image).astype(np.float32))
    made.SetSpacing(image.GetSpacing())
    made.SetOrigin(image.GetOrigin())
    made.SetDirection(np.reshape(image.GetDirection(), (3, 3)))
    return made


def ants_image(image: sitk.Image):
    import ants

    return ants.from_numpy(
        sitk.GetArrayFromImage(image).astype(np.float32).transpose(2, 1, 0), image.GetOrigin(), image.GetSpacing(),
        np.reshape(image.GetDirection(), (3, 3)),
    )  # fmt: skip


def from_ants(corrected, like: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(corrected.numpy().transpose(2, 1, 0))
    image.CopyInformation(like)
    return image


WAYS = {"simpleitk": SimpleITKDefaults, "ants": Ants, "tuned": Tuned}


def prepare(name: str, work: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every step for every series; the images on the network's grid, the matrices, and what each step took."""
    way, took, result = WAYS[name](), {}, {}
    named = [key for key in work if f"{key}_grid" in work]
    images = {key: sitk_image(work[key].astype(np.float32), work[f"{key}_grid"]) for key in named}
    brain = sitk.Cast(images["brain"], sitk.sitkUInt8)

    def timed(step: str, function, *arguments):
        start = time.process_time()
        made = function(*arguments)
        took[step] = time.process_time() - start
        print(f"  {name}: {step} {took[step]:.1f} CPU-s", flush=True)
        return made

    for key in BIASED if "template" in images else ():  # without it the registration alone is wanted
        images[key] = timed(f"N4 {key}", way.n4, images[key], brain)
    to_t1 = np.eye(4)
    if "template" in images:
        network = sitk_image(np.zeros(work["network_size"][::-1], np.float32), work["network"])
        inside = sitk.Mask(images["t1"], brain)
        to_t1 = result["affine"] = timed("affine t1", way.register, images["template"], inside, brain, True)
        result["t1"] = timed("resample t1", way.onto, images["t1"], network, to_t1)
    for guide, series in TO_REGISTER.items():
        if guide not in images:
            continue
        result[f"{guide}_matrix"] = timed(f"rigid {guide}", way.register, images["t1"], images[guide], brain, False)
        if "template" in images:
            matrix = result[f"{guide}_matrix"] @ to_t1
            result[series] = timed(f"resample {series}", way.onto, images[series], network, matrix)
    result["seconds"] = np.array(sum(took.values()))
    return result


def main() -> None:
    name, source, target = sys.argv[1:]
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(int(THREADS))
    with np.load(source) as file:
        result = prepare(name, dict(file))
    np.savez(target, **result)


if __name__ == "__main__":
    main()
